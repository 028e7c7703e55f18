"""Networks of cells against what was published of them, and against sums written out by hand."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sartor.blocks.cell import EDGES, FactorizedReduce
from sartor.blocks.drop_path import DropPath, scheduled_drop_path
from sartor.errors import InputError
from sartor.models.cells import EdgeCell, build_nb201, build_two_input
from sartor.records import Arch
from sartor.space.cell import nas_bench_201
from sartor.space.strings import parse_genotype, parse_nb201
from sartor.space.two_input import darts_space, nasnet_space

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)


def macs(network: nn.Module, side: int = 32) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() // 2


def params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_nas_bench_201_networks_have_the_tables_parameters_and_macs(published):
    """The table's columns are those of its CIFAR-100 networks, in millions, to three and two decimals."""
    for number, row in enumerate(random.Random(0).sample(published("nb201.csv.gz"), 20)):
        with torch.device("meta"):
            network = build_nb201(parse_nb201(row["arch_str"]), classes=100)
        assert round(params(network) / 1e6, 3) == float(row["params_m"]), row["arch_str"]
        if number < 5:  # a forward pass each
            network = build_nb201(parse_nb201(row["arch_str"]), classes=100)
            assert macs(network) / 1e6 == pytest.approx(float(row["flops_m"]), abs=0.0051), row["arch_str"]


def test_a_darts_network_has_the_published_parameters():
    """DARTS's second-order cells at 36 channels, 20 cells: 3.3 M (arXiv:1806.09055, table 1), without the auxiliary
    classifier."""
    with torch.device("meta"):
        network = build_two_input(parse_genotype(DARTS_V2), channels=36, cells=20)
    assert round(params(network) / 1e6, 1) == 3.3


def test_a_cell_is_the_sum_of_its_paths():
    """The output of linear edges (no norm, no ReLU) is the sum over all paths of the products along them."""
    space, edge = nas_bench_201(), {"skip_connect": 1.0, "none": 0.0}
    rng = random.Random(4)
    for _ in range(20):
        arch = Arch({choice.name: rng.choice(list(edge)) for choice in space.choices})
        x = torch.randn(2, 3, 4, 4)
        found = EdgeCell(space, arch, 3)(x)
        assert torch.allclose(found, len(space.paths(arch)) * x)


@pytest.mark.parametrize("space", [darts_space(), nasnet_space(), nasnet_space(combine=("add", "concat"))])
@pytest.mark.parametrize("cells", [3, 5])
def test_every_sampled_cell_builds_at_two_depths(space, cells: int):
    for seed in range(4):
        network = build_two_input(space.sample(random.Random(seed)), channels=4, cells=cells)
        out = network(torch.randn(2, 3, 16, 16))
        assert out.shape == (2, 10)
        assert out.isfinite().all()
        out.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        assert {cell.out_channels % (4 * 4) for cell in network.cells[2 * cells // 3 :]} == {0}


def test_reduction_cells_halve_the_image_and_double_the_channels():
    network = build_two_input(darts_space().sample(random.Random(0)), channels=4, cells=6)
    shapes: list[tuple[int, ...]] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    network(torch.zeros(2, 3, 16, 16))
    assert shapes == [(16, 16, 16)] * 2 + [(32, 8, 8)] * 2 + [(64, 4, 4)] * 2


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8])
def test_an_operator_keeps_channels_and_divides_the_side(name: str, stride: int, side: int):
    out = EDGES[name](6, stride)(torch.randn(2, 6, side, side))
    assert out.shape == (2, 6, -(-side // stride), -(-side // stride))


def test_a_factorised_reduction_sees_the_pixels_a_stride_would_skip():
    layer = FactorizedReduce(1, 2).eval()
    nn.init.ones_(layer.here.weight)
    nn.init.ones_(layer.beside.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    out = layer(x)[0] * (1 + layer.norm.eps) ** 0.5
    assert torch.allclose(out[0], x[0, 0, ::2, ::2])
    assert torch.allclose(out[1], x[0, 0, 1::2, 1::2])


def test_drop_path_ramps_linearly_and_keeps_the_mean():
    network = build_two_input(nasnet_space().sample(random.Random(1)), channels=4, cells=3)
    paths = [module for module in network.modules() if isinstance(module, DropPath)]
    assert paths
    seen = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        scheduled_drop_path(network, progress, final=0.4)
        assert all(path.probability == pytest.approx(0.4 * progress * path.depth) for path in paths)
        seen.append(paths[-1].probability)
    assert seen == pytest.approx([0.0, seen[3] / 4, seen[3] / 2, 0.4])  # the last cell's depth is 1
    torch.manual_seed(0)
    path = DropPath().train()
    path.probability = 0.4
    out = path(torch.ones(20_000, 2))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (out[:, 0] == out[:, 1]).all()  # an example is dropped whole
    assert out.mean() == pytest.approx(1, abs=0.03)  # 20,000 draws: five deviations
    assert torch.equal(path.eval()(out), out)


def test_impossible_sizes_are_refused():
    arch = nas_bench_201().smallest()
    for wrong in (
        lambda: build_nb201(arch, cells=0),
        lambda: build_nb201({"edge0": "none"}),
        lambda: build_two_input(darts_space().smallest(), channels=0, cells=3),
        lambda: build_two_input(arch, channels=4, cells=3),
        lambda: scheduled_drop_path(nn.Identity(), 1.5),
        lambda: scheduled_drop_path(nn.Identity(), 0.5, final=1.0),
    ):
        with pytest.raises(InputError):
            wrong()
