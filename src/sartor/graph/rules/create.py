"""Operators that make tensors of nothing."""

from __future__ import annotations

from sartor.graph.atoms import Atoms, unlabelled
from sartor.graph.call import Call, Dims


def uniform(atoms: Atoms, call: Call) -> Dims:
    """zeros, ones, full: all entries are equal, so that any can go; what they meet says which."""
    return tuple(atoms.fresh(size) if size > 1 else unlabelled(size) for size in call.shape)


def counted(atoms: Atoms, call: Call) -> Dims:
    """arange, linspace, eye: entries are told by their number, so that none can go."""
    return tuple(unlabelled(size) for size in call.shape)


RULES = {
    **dict.fromkeys(
        (
            "aten.zeros.default",
            "aten.ones.default",
            "aten.full.default",
            "aten.empty.memory_format",
            "aten.new_zeros.default",
            "aten.new_ones.default",
            "aten.new_full.default",
            "aten.new_empty.default",
            "aten.scalar_tensor.default",
        ),
        uniform,
    ),
    **dict.fromkeys(
        (
            "aten.arange.default",
            "aten.arange.start",
            "aten.arange.start_step",
            "aten.linspace.default",
            "aten.eye.default",
            "aten.eye.m",
            "aten.randn.default",
            "aten.rand.default",
            "aten.randint.default",
            "aten.randint.low",
            "aten.randperm.default",
            "aten.logspace.default",
            "aten.tril_indices.default",
            "aten.triu_indices.default",
            "aten.hann_window.default",
            "aten.hamming_window.default",
            "aten.fft_fftfreq.default",
            "aten.fft_rfftfreq.default",
        ),
        counted,
    ),
}
