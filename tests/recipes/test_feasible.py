"""Operators that cannot meet a budget do not race; where none can, the fit ends before its training."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.shop import workshop
from sartor.compress.quantize import quantize_int8
from sartor.errors import BudgetError
from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts
from sartor.measure.memory import peak_activation_bytes
from sartor.recipes.feasible import feasible
from sartor.recipes.probe import SIZES
from sartor.recipes.workshop import Workshop
from sartor.records import Arch, Budget
from sartor.space import OPERATORS, conv_space
from sartor.train.recalibrate import recalibrate


def smallest() -> dict[str, Arch]:
    width, depth = SIZES[0]
    return {o: conv_space(8, width=width, depth=depth, operators=(o,)).smallest() for o in OPERATORS}


def trained(shop: Workshop, arch: Arch, path: Path) -> Path:
    """The 8-bit file of a network that is not the draft: other weights, real statistics, exported for good."""
    network = shop.build(arch)
    recalibrate(network, shop.calibration(int(arch["resolution"])))
    export_onnx(network, shop.shape(arch), path / "fp32.onnx")
    images = [x.numpy() for x in shop.calibration(int(arch["resolution"]), 256)]
    quantize_int8(path / "fp32.onnx", path / "int8.onnx", images)
    return path / "int8.onnx"


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_draft_has_the_size_and_memory_of_the_file_that_will_be_shipped(operator: str, tmp_path: Path) -> None:
    shop = workshop(tmp_path, Budget(max_memory_bytes=1))  # the 8-bit file is always the nearer one
    arch = smallest()[operator]
    file = trained(shop, arch, tmp_path)
    draft = shop.draft(arch)
    assert draft["peak_memory_bytes"] == peak_activation_bytes(file)
    assert draft["size_bytes"] == pytest.approx(file.stat().st_size, rel=0.03)  # some names are longer


def test_only_operators_that_can_meet_the_budget_race(tmp_path: Path) -> None:
    shop, archs = workshop(tmp_path, Budget(max_size_bytes=1, max_macs=10**9)), smallest()
    sizes = {operator: shop.draft(arch)["size_bytes"] for operator, arch in archs.items()}
    for index, limit in enumerate(sorted(set(sizes.values()))):
        left = feasible(workshop(tmp_path / str(index), Budget(max_size_bytes=int(1.01 * limit))), archs)
        assert left == [operator for operator in archs if sizes[operator] <= 1.01 * limit]


def test_memory_and_size_are_of_one_file_that_may_be_shipped(tmp_path: Path) -> None:
    arch = smallest()["residual"]
    drafts = {
        names: workshop(tmp_path / "+".join(names), Budget(max_size_bytes=1), names).draft(arch)
        for names in (("fp32",), ("int8",), ("fp32", "int8"))
    }
    plain, narrow, both = drafts.values()
    assert both["size_bytes"] == pytest.approx(narrow["size_bytes"], rel=1e-3)  # fresh weights: a scale of a byte less
    assert narrow["size_bytes"] < plain["size_bytes"]
    assert both["peak_memory_bytes"] == narrow["peak_memory_bytes"] < plain["peak_memory_bytes"]


def test_nothing_can_meet_the_budget(tmp_path: Path) -> None:
    archs = smallest()
    macs = {
        o: counts(workshop(tmp_path, Budget()).build(a), (1, *[int(a["resolution"])] * 2)).macs
        for o, a in archs.items()
    }
    nearest = min(macs, key=lambda operator: macs[operator])
    with pytest.raises(BudgetError, match=rf"the smallest {nearest} network: macs .* over 10 by"):
        feasible(workshop(tmp_path, Budget(max_macs=10)), archs)


def test_without_a_budget_nothing_is_measured(tmp_path: Path) -> None:
    shop = workshop(tmp_path, Budget())
    assert feasible(shop, smallest()) == list(OPERATORS)
    assert not any(f"draft.{arch.key}" in shop.journal for arch in smallest().values())
