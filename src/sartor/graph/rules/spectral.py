"""Complex numbers, and Fourier transforms."""

from __future__ import annotations

from sartor.graph.atoms import Atoms, unlabelled
from sartor.graph.call import Call, Dims, Value
from sartor.graph.rules.elementwise import elementwise, same


def as_complex(atoms: Atoms, call: Call) -> Dims:
    """[..., 2] real numbers to [...] complex ones."""
    value = call["self"]
    atoms.freeze(value.dims[-1], f"{call.why}: a real and an imaginary part")
    return value.dims[:-1]


def as_real(atoms: Atoms, call: Call) -> Dims:
    return (*call["self"].dims, unlabelled(2))


def transform(atoms: Atoms, call: Call) -> Dims:
    """Along transformed dimensions every frequency is made of every position; the others are what they were."""
    value = call["self"]
    axes = _axes(call, value)
    dims = []
    for axis, (label, size) in enumerate(zip(value.dims, call.shape, strict=True)):
        if axis in axes:
            atoms.freeze(label, f"{call.why}: every frequency is made of all positions")
        dims.append(unlabelled(size) if axis in axes else label)
    return tuple(dims)


def _axes(call: Call, value: Value) -> list[int]:
    given, sizes = call.get("dim"), call.get("s")
    if given is None:
        return list(range(value.rank - len(sizes) if sizes is not None else 0, value.rank))
    return [axis % value.rank for axis in ([given] if isinstance(given, int) else given)]


RULES = {
    "aten.view_as_complex.default": as_complex,
    "aten.view_as_real.default": as_real,
    **dict.fromkeys(("aten.complex.default", "aten.polar.default"), elementwise),
    **dict.fromkeys(
        (f"aten.{name}.default" for name in ("real", "imag", "conj", "_conj", "resolve_conj", "resolve_neg")), same
    ),
    **dict.fromkeys(
        (
            f"aten.fft_{name}.default"
            for kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
            for name in (kind, f"{kind}2", f"{kind}n")
        ),
        transform,
    ),
    **dict.fromkeys(("aten.fft_fftshift.default", "aten.fft_ifftshift.default"), transform),
}
