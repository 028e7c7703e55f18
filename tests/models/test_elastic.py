"""Any network becomes a supernet over its own weights."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from contracts.supernet import SupernetSuite
from graph.nets import NETS, example
from sartor.errors import InputError
from sartor.graph import trace
from sartor.models.elastic import Elastic, elastify


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a, self.norm, self.b = (
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.norm(self.a(x)).relu())


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), Block(12), Block(12), nn.Conv2d(12, 16, 3, 2, 1), Block(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def made(model: nn.Module, *x: Tensor, **options) -> Elastic:
    return elastify(model.eval(), x, **options)


class TestElasticResidual(SupernetSuite):
    make = staticmethod(lambda: made(residual(), torch.randn(2, 3, 8, 8)))
    images = (3, 8, 8)
    n_archs = 30


class TestElasticWithResolutions(SupernetSuite):
    make = staticmethod(lambda: made(residual(), torch.randn(2, 3, 16, 16), resolutions=(8, 12, 16)))
    images = (3, 16, 16)
    n_archs = 30


class TestElasticAsAGraph(SupernetSuite):
    """A network whose code cannot take other sizes."""

    make = staticmethod(lambda: made(NETS["split in halves"]()[0], torch.randn(2, 3, 8, 8)))
    images = (3, 8, 8)
    n_archs = 20


def large_kernels() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 7, 2, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 5, 1, "same", groups=12),
        nn.Conv2d(12, 8, 5, 1, 4, dilation=2), nn.Conv2d(8, 8, 5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


class TestElasticKernels(SupernetSuite):
    make = staticmethod(lambda: made(large_kernels(), torch.randn(2, 3, 20, 20)))
    images = (3, 20, 20)
    n_archs = 30


def test_kernels_are_cropped_to_their_middle() -> None:
    """A cropped network is the whole one with zeros around the middle; without padding it would see another place."""
    supernet = made(large_kernels(), torch.randn(2, 3, 20, 20), widths=(1.0,))
    choices = {choice.name: choice.options for choice in supernet.space.choices}
    assert choices == {"0.kernel": (3, 5, 7), "3.kernel": (3, 5), "4.kernel": (3, 5)}
    arch = supernet.space.largest().replace(**{"0.kernel": 5, "3.kernel": 3, "4.kernel": 3})
    assert supernet.kernels(arch) == {"0": 5, "3": 3, "4": 3}
    zeroed = large_kernels().eval()
    zeroed.load_state_dict(supernet.model.state_dict())
    with torch.no_grad():
        for path, side in supernet.kernels(arch).items():
            weight = zeroed.get_parameter(f"{path}.weight")
            inside = torch.zeros_like(weight)
            margin = (weight.shape[-1] - side) // 2
            inside[..., margin:-margin, margin:-margin] = 1
            weight.mul_(inside)
        x = torch.randn(2, 3, 20, 20)
        torch.testing.assert_close(supernet(x, arch), zeroed(x), atol=1e-5, rtol=1e-4)
    assert supernet.extract(arch)[0].weight.shape[-2:] == (5, 5)
    kept = made(large_kernels(), torch.randn(2, 3, 20, 20), widths=(1.0,), protect=("0", "4"))
    assert [choice.name for choice in kept.space.choices] == ["3.kernel"]


def test_choices_of_a_residual_network() -> None:
    supernet = made(residual(), torch.randn(2, 3, 8, 8), widths=(0.5, 1))
    choices = {choice.name: choice.options for choice in supernet.space.choices}
    assert choices["0.keep"] == (6, 12)
    assert choices["1.a.keep"] == (12, 24)
    assert [name for name in choices if name.endswith(".depth")] == ["1.depth", "2.depth", "4.depth"]


def test_the_blocks_of_a_chain_can_go_one_by_one() -> None:
    """A stage that is nothing but residual blocks is no block; a residual of residuals is one, and hides them."""

    class Outer(nn.Module):
        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Block(8), Block(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks(x)

    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), Stage(), Outer(nn.Sequential(Block(8), Block(8))), nn.Flatten(), nn.Linear(8 * 16, 3)
    )
    blocks = [block.path for block in trace(net.eval(), torch.randn(2, 3, 4, 4)).blocks]
    assert blocks == ["1.blocks.0", "1.blocks.1", "2"]


def test_a_block_can_go() -> None:
    """Without a block its weights are not there, and the network is the one whose branch is zero."""
    net, x = residual().eval(), torch.randn(2, 3, 8, 8)
    supernet = elastify(net, x)
    arch = supernet.largest.replace(**{"1.depth": 0})
    small = supernet.extract(arch)
    assert not [name for name, _ in small.named_parameters() if name.startswith("1.")]
    with torch.no_grad():
        found = small(x)
        net[1].b.weight.zero_()
        net[1].b.bias.zero_()
        torch.testing.assert_close(found, net(x))


def test_important_channels_are_kept_first() -> None:
    net, x = residual(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        net[1].a.weight[::2] *= 10
    supernet = elastify(net.eval(), x, widths=(0.5, 1))
    small = supernet.extract(supernet.largest.replace(**{"1.a.keep": 12}))
    torch.testing.assert_close(small[1].a.weight, net[1].a.weight[::2])


@pytest.mark.parametrize("name", ["grouped", "attention", "attention with a table", "lstm", "mlp", "torch's attention"])
def test_other_networks(name: str) -> None:
    torch.manual_seed(0)
    net, inputs = NETS[name]()
    x = example(inputs)
    supernet = elastify(net.eval(), x)
    rng = random.Random(0)
    with torch.no_grad():
        torch.testing.assert_close(supernet(*x), net(*x))
        for _ in range(5):
            arch = supernet.space.sample(rng)
            torch.testing.assert_close(supernet(*x, arch), supernet.extract(arch)(*x))


def test_training_all_archs_moves_the_models_own_weights() -> None:
    net, x = residual().train(), torch.randn(4, 3, 8, 8)
    supernet = elastify(net, x)
    supernet(x, supernet.space.smallest()).square().mean().backward()
    assert net[0].weight.grad is not None
    assert 0 < int((net[0].weight.grad.flatten(1).abs().sum(1) > 0).sum()) < 12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"widths": ()}, "widths are shares"),
        ({"widths": (0.5, 2)}, "widths are shares"),
        ({"protect": ["*"], "depth": False}, "nothing of"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        elastify(residual().eval(), torch.randn(2, 3, 8, 8), **options)
