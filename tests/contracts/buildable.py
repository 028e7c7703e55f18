"""What every space with networks must keep: each of its archs builds, trains a step, counts and exports.

Give yours the suite by subclassing it in a test file:

    class TestMine(BuildableSuite):
        make = staticmethod(my_problem)
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from sartor.export.onnx import to_onnx
from sartor.models.buildable import Buildable
from sartor.records import Arch

DRAWN = 4
"""Random archs a space is tried with, beside its smallest and its largest."""
EXPORTED = 1e-4
"""Largest difference of a file's output from the network's, over the largest output: another runtime's sums."""


class BuildableSuite:
    """Subclass with ``make = staticmethod(...)``, a function that returns a ``Buildable``."""

    make: Any = None
    exported: tuple[int, ...] = (0, 1, 2)
    """Which archs are exported: the smallest, the largest, drawn ones. One will do where an export takes long."""

    @pytest.fixture(scope="class")
    @classmethod
    def problem(cls) -> Buildable:
        assert cls.make is not None, "set `make = staticmethod(...)` in the class"
        return cls.make()

    @pytest.fixture(scope="class")
    @classmethod
    def archs(cls, problem: Buildable) -> list[Arch]:
        rng = random.Random(0)
        return [problem.space.smallest(), problem.space.largest(), *(problem.space.sample(rng) for _ in range(DRAWN))]

    def test_archs_are_of_the_space_and_survive_json(self, problem: Buildable, archs: list[Arch]):
        for arch in archs:
            assert problem.space.contains(arch)
            assert problem.space.canonical(dict(arch)) == arch

    def test_moves_stay_in_the_space(self, problem: Buildable, archs: list[Arch]):
        rng = random.Random(1)
        for arch in archs:
            mutant = problem.space.mutate(arch, rng)
            assert problem.space.contains(mutant)
            assert mutant != arch
            assert problem.space.contains(problem.space.cross(arch, mutant, rng))

    def test_encodings_have_one_length_and_tell_archs_apart(self, problem: Buildable, archs: list[Arch]):
        codes = {tuple(problem.space.encode(arch)) for arch in archs}
        assert len({len(code) for code in codes}) == 1
        assert len(codes) == len(set(archs))

    def test_every_arch_builds_and_trains_a_step(self, problem: Buildable, archs: list[Arch]):
        for arch in archs:
            torch.manual_seed(0)
            network = problem.build(arch).train()
            inputs = problem.inputs(arch, 4)
            out = network(*inputs)
            assert out.shape[0] == 4
            assert out.isfinite().all()
            out.square().mean().backward()
            lost = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
            assert not lost, f"{arch}: parameters that nothing uses"
            torch.optim.SGD(network.parameters(), lr=1e-3).step()
            assert network(*inputs).isfinite().all()

    def test_every_arch_counts(self, problem: Buildable, archs: list[Arch]):
        smallest, largest = (sum(p.numel() for p in problem.build(arch).parameters()) for arch in archs[:2])
        assert 0 <= smallest <= largest
        assert all(_macs(problem, arch) > 0 for arch in archs[1:2])

    def test_archs_export(self, problem: Buildable, archs: list[Arch]):
        for arch in (archs[i] for i in self.exported):
            torch.manual_seed(0)
            network, inputs = problem.build(arch).eval(), problem.inputs(arch, 2)
            proto = to_onnx(network, inputs)
            session = onnxruntime.InferenceSession(proto.SerializeToString())
            names = [given.name for given in session.get_inputs()]
            found = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})[0]
            with torch.no_grad():
                wanted = network(*inputs).numpy()
            assert np.abs(found - wanted).max() <= EXPORTED * max(1e-3, np.abs(wanted).max()), str(arch)

    def test_the_same_seed_builds_the_same_network(self, problem: Buildable, archs: list[Arch]):
        first, second = (_seeded(problem, archs[0]) for _ in range(2))
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[name]), name


def _seeded(problem: Buildable, arch: Arch) -> nn.Module:
    torch.manual_seed(3)
    return problem.build(arch)


def _macs(problem: Buildable, arch: Arch) -> int:
    """Multiply-accumulates of one forward pass of one input."""
    from torch.utils.flop_counter import FlopCounterMode

    network = problem.build(arch).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*problem.inputs(arch, 1))
    return counter.get_total_flops() // 2
