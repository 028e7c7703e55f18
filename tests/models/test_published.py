"""Published networks: parameters and MACs as published, and what their layers compute, by other means."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sartor.measure.counts import Counts, counts, counts_of
from sartor.models.autoformer import build_autoformer
from sartor.models.macro import build_fbnet, build_macro
from sartor.models.mnasnet import build_mnasnet
from sartor.models.ofa import build_ofa
from sartor.models.torchvision_ops import define_missing_ops
from sartor.records import Arch
from sartor.search.tables.known import ofa_options
from sartor.search.tables.rows import read_rows
from sartor.space.autoformer import BASE, SMALL, autoformer_space
from sartor.space.macro import FBNET_OPERATORS, fbnet_space, nas_bench_macro, numbered
from sartor.space.mnasnet import mnasnet_a1, mnasnet_space
from sartor.space.ofa import ofa_space

FBNET_C = (
    "k3_e1 k3_e6 skip k3_e1 k3_e1 k5_e6 k5_e3 k5_e6 k3_e6 k5_e6 k5_e3 k5_e6 k5_e6 "
    "k5_e6 k5_e6 k5_e6 k5_e3 k5_e6 k5_e6 k5_e6 k5_e6 k3_e6"
)
"""Figure 4 of arXiv:1812.03443."""


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(build: Callable[[Arch], nn.Module], arch: Arch, side: int) -> Counts:
    """Counts need shapes, not numbers."""
    with torch.device("meta"):
        return counts(build(arch), (3, side, side))


def timm_model(name: str) -> nn.Module:
    define_missing_ops()
    import timm

    return timm.create_model(name, pretrained=False).eval()


def same(mine: nn.Module, theirs: nn.Module) -> None:
    """With the same weights, one after another as they come, the same output."""
    pairs = zip(mine.state_dict(), theirs.state_dict().values(), strict=True)
    mine.load_state_dict({name: tensor.clone() for name, tensor in pairs})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, wanted = mine.eval()(x), theirs(x)
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def rows_of(folder: Path, name: str, every: int) -> list[dict[str, str]]:
    return read_rows(folder / "nas" / name, "")[::every]


def test_once_for_alls_subnets_have_the_tabled_parameters_and_macs(data_dir: Path):
    space = ofa_space()
    for row in rows_of(data_dir, "ofa_mbv3_accuracy.csv.gz", 300):
        arch = space.canonical(ofa_options(row))  # type: ignore[arg-type]
        found = on_meta(build_ofa, arch, int(row["r"]))
        assert (found.params, found.macs) == (int(row["params"]), int(row["macs"]))


def test_nas_bench_macros_networks_have_the_tabled_parameters_and_macs(data_dir: Path):
    space = nas_bench_macro()
    for row in rows_of(data_dir, "nasbench_macro_cifar10.csv.gz", 300):
        arch = space.canonical(numbered("layer", [int(digit) for digit in row["arch"]]))  # type: ignore[arg-type]
        found = on_meta(build_macro, arch, 32)
        assert (found.params, found.macs) == (int(row["params"]), int(row["flops"]))


def test_mnasnet_a1_has_the_papers_parameters_and_macs():
    """3.9M and 312M (arXiv:1807.11626, Table 1); and timm's, which is written apart from this."""
    found = on_meta(build_mnasnet, mnasnet_a1(), 224)
    assert found.params == pytest.approx(3.9e6, rel=0.01)
    assert found.macs == pytest.approx(312e6, rel=0.01)
    timms = timm_model("semnasnet_100")
    assert found.macs == counts(timms, (3, 224, 224)).macs
    same(build_mnasnet(mnasnet_a1()), timms)


def test_fbnet_c_is_timms_and_as_large_as_published(data_dir: Path):
    arch = fbnet_space().canonical(numbered("layer", FBNET_C.split()))  # type: ignore[arg-type]
    found = on_meta(build_fbnet, arch, 224)
    timms = timm_model("fbnetc_100")
    assert found.macs == counts(timms, (3, 224, 224)).macs
    same(build_fbnet(arch), timms)
    (published,) = [row for row in rows_of(data_dir, "imgclsmob_models.csv.gz", 1) if row["model"] == "FBNet-Cb"]
    assert found.params == float(published["params"])


def test_fbnets_operators_are_in_the_order_of_their_macs():
    networks = [Arch({f"layer{i}": operator for i in range(22)}) for operator in FBNET_OPERATORS]
    macs = [on_meta(build_fbnet, arch, 64).macs for arch in networks]
    assert macs == sorted(macs)


@pytest.mark.parametrize(
    ("width", "heads", "ratios", "millions", "ranges"),
    [
        # The searched networks of the paper's repository, with the parameters of its Table 2.
        (192, "3333333333433", "7767668878787", 5.9, None),  # stated as 5.7M: the table leaves something out
        (384, "6657555667767", "6767888888878", 22.9, SMALL),
        (576, [9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10], "77878776886867", 53.7, BASE),
    ],
)
def test_autoformers_have_the_papers_parameters(width: int, heads: Any, ratios: str, millions: float, ranges: Any):
    options: dict[str, Any] = {"width": width, "depth": len(ratios)}
    options |= numbered("heads", [int(n) for n in heads]) | numbered("ratio", [int(n) / 2 for n in ratios])
    network = build_autoformer(Arch(options))
    assert round(parameters(network) / 1e6, 1) == millions
    assert ranges is None or autoformer_space(ranges).contains(Arch(options))


def test_mnasnets_skips_and_missing_blocks_leave_a_network_that_runs():
    space = mnasnet_space()
    base = dict(mnasnet_a1())
    for skip, layers in itertools.product(("none", "pool", "identity"), (0, 2)):
        options = base | {f"b{b}.skip": skip for b in range(7)} | {"b0.layers": layers, "b6.layers": layers}
        network = build_mnasnet(space.canonical(options), width=0.25, classes=3).eval()
        assert network(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_counts_of_any_inputs_are_those_of_images_where_they_are_images():
    network = build_macro(nas_bench_macro().largest())
    one, three = (counts_of(network, (torch.zeros(n, 3, 32, 32),)) for n in (1, 3))
    assert one == counts(network, (3, 32, 32))
    assert three.macs == 3 * one.macs
