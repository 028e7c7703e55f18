"""What every supernet must keep. Give yours the suite by subclassing it in a test file:

    class TestMine(SupernetSuite):
        make = staticmethod(lambda: my_supernet())
        images = (3, 32, 32)

``make`` returns a supernet (an ``nn.Module`` with ``space``, ``forward(x, arch)`` and ``extract(arch)``) for images of
shape ``images``. The suite gives its weights and batch-norm statistics values of its own, so ``make`` is called often.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
"""Largest absolute error over the largest absolute output: promise 2 of the design."""


def roughen(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter a nudge and every float buffer (running means and variances) a non-trivial positive value:
    fresh statistics of 0 and 1 would hide a norm that was cut wrongly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            spread = 0.3 * parameter.std() if parameter.numel() > 1 and parameter.std() > 0 else torch.tensor(0.3)
            parameter += spread * torch.randn(parameter.shape, generator=generator)
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return module


def error(a: Tensor, b: Tensor) -> float:
    """Max abs error in units of the largest abs value of ``b``. Refuses a ``b`` that is constant or not finite."""
    assert bool(torch.isfinite(b).all())
    assert float(b.std()) > 0, "a constant output shows nothing"
    return float((a - b).abs().max() / b.abs().max())


class SupernetSuite:
    """Subclass with ``make = staticmethod(...)`` and ``images = (C, H, W)``."""

    make: Any = None
    images: tuple[int, int, int] | None = None
    n_archs = 200

    @pytest.fixture
    def supernet(self) -> Any:
        assert self.make is not None, "set `make = staticmethod(...)` in the class"
        torch.manual_seed(0)
        return roughen(type(self).make()).eval()

    @pytest.fixture
    def x(self) -> Tensor:
        assert self.images is not None, "set `images = (C, H, W)` in the class"
        return torch.randn(2, *self.images, generator=torch.Generator().manual_seed(1))

    def archs(self, supernet: Any, n: int) -> list[Any]:
        rng = random.Random(2)
        return [supernet.space.sample(rng) for _ in range(n)]

    @staticmethod
    def resized(x: Tensor, arch: Any) -> Tensor:
        """The images an extracted subnet is given: at the arch's resolution, where it has that choice."""
        side = int(arch.get("resolution", x.shape[-1]))
        if side == x.shape[-1]:
            return x
        return nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True)

    @torch.no_grad()
    def test_extract_equals_supernet(self, supernet: Any, x: Tensor):
        archs = self.archs(supernet, self.n_archs)
        worst = max((error(supernet.extract(a)(self.resized(x, a)), supernet(x, a)), a.to_json()) for a in archs)
        assert worst[0] <= TOLERANCE, worst

    @torch.no_grad()
    def test_the_arch_is_an_argument_and_never_hidden_state(self, supernet: Any, x: Tensor):
        a, b = self.archs(supernet, 2)
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        first = supernet(x, a)
        supernet(x, b)
        supernet.extract(b)
        assert torch.equal(supernet(x, a), first)
        assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())

    @torch.no_grad()
    def test_a_subnet_owns_its_weights(self, supernet: Any, x: Tensor):
        (arch,) = self.archs(supernet, 1)
        before = supernet(x, arch)
        subnet = supernet.extract(arch)
        for tensor in subnet.state_dict().values():
            tensor.zero_()
        assert torch.equal(supernet(x, arch), before)
        held = {tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in supernet.extract(arch).parameters()}
        assert held == {True}, "a parameter of the subnet drags the shared tensor along"

    def test_a_subnet_is_a_plain_module_in_the_supernets_mode(self, supernet: Any):
        for arch in self.archs(supernet, 3):
            for mode in (True, False):
                subnet = supernet.train(mode).extract(arch)
                assert isinstance(subnet, nn.Module)
                assert {module.training for module in subnet.modules()} == {mode}
            parameters = list(subnet.parameters())
            assert all(p.is_leaf and p.device.type != "meta" for p in parameters)
            fixed = {n for n, p in supernet.builder(arch).named_parameters() if not p.requires_grad}
            assert {n for n, p in subnet.named_parameters() if not p.requires_grad} == fixed
            assert sum(p.numel() for p in parameters) <= sum(p.numel() for p in supernet.parameters())

    def test_gradients_reach_the_shared_weights_whole(self, supernet: Any, x: Tensor):
        """The squared length of the shared weights' gradient is that of the subnet's: nothing lost, nothing added."""
        for arch in self.archs(supernet, 10):
            subnet = supernet.extract(arch)
            lengths = []
            for module, logits in ((supernet, supernet(x, arch)), (subnet, subnet(self.resized(x, arch)))):
                module.zero_grad()
                logits.square().sum().backward()
                lengths.append(
                    sum(float(p.grad.double().square().sum()) for p in module.parameters() if p.grad is not None)
                )
            assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
            assert lengths[0] > 0

    @torch.no_grad()
    def test_weights_survive_their_state_dict_and_a_copy(self, supernet: Any, x: Tensor):
        (arch,) = self.archs(supernet, 1)
        expected = supernet(x, arch)
        fresh = type(self).make().eval()
        fresh.load_state_dict(supernet.state_dict())
        assert torch.equal(fresh(x, arch), expected)
        twin = copy.deepcopy(supernet)
        for parameter in supernet.parameters():
            parameter.zero_()
        assert not twin.training
        assert torch.equal(twin(x, arch), expected)
