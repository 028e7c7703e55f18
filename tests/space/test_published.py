"""Published spaces: their exact sizes beside those that the papers state, and the contract every space keeps."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.search.tables.rows import read_rows
from sartor.space import Space
from sartor.space.autoformer import BASE, SMALL, TINY, autoformer_space
from sartor.space.flexibert import flexibert_space
from sartor.space.hat import TABLED_HEADS, TABLED_HIDDEN, averages, hat_space, with_averages
from sartor.space.macro import fbnet_space, nas_bench_macro
from sartor.space.mnasnet import mnasnet_a1, mnasnet_space
from sartor.space.ofa import ofa_space

TABLED = hat_space(hidden=TABLED_HIDDEN, heads=TABLED_HEADS)


class TestOnceForAll(SpaceSuite):
    space = ofa_space()


class TestFBNet(SpaceSuite):
    space = fbnet_space()


class TestMnasNet(SpaceSuite):
    space = mnasnet_space()


class TestNasBenchMacro(SpaceSuite):
    space = nas_bench_macro()


class TestHat(SpaceSuite):
    space = hat_space()


class TestAutoFormer(SpaceSuite):
    space = autoformer_space()


class TestFlexiBert(SpaceSuite):
    space = flexibert_space()


def over(depths: tuple[int, ...], a_layer: int) -> int:
    return sum(a_layer**depth for depth in depths)


ATTENDED = 3 * 2 * 2 * 3
"""Of HAT's decoder layer: hidden channels, heads, heads, span."""


@pytest.mark.parametrize(
    ("space", "by_hand", "stated", "within"),
    [
        # (3·3)² + (3·3)³ + (3·3)⁴ a stage; the paper leaves the 25 resolutions out, and rounds.
        (ofa_space(resolutions=(224,)), over((2, 3, 4), 9) ** 5, 2e19, 0.1),
        (ofa_space(), 25 * over((2, 3, 4), 9) ** 5, 25 * 2e19, 0.1),
        (fbnet_space(), 9**22, 1e21, 0.02),  # "9²² ≈ 10²¹"
        (nas_bench_macro(), 3**8, 6561, 0),
        # "3.32 × 10⁹": six operations, two heads, two widths, one perceptron of two or three of two each.
        (flexibert_space(), over((2, 4), 6 * 2 * 2 * (2 + 2**3)), 3.32e9, 0.001),
        # "10¹⁵" for the space that is searched: its order of magnitude, at most.
        (hat_space(), 2 * 2 * (3 * 2) ** 6 * over((1, 2, 3, 4, 5, 6), ATTENDED), 1e15, 0.6),
    ],
)
def test_sizes_are_those_by_hand_and_nearly_those_stated(space: Space, by_hand: int, stated: float, within: float):
    assert space.count() == by_hand
    assert math.isclose(space.count(), stated, rel_tol=within)


def test_mnasnets_blocks_have_the_432_options_of_the_paper():
    """Its "typical case" is five blocks of S = 432, 10¹³; of the seven here the outer two may be gone."""
    space, whole = mnasnet_space(), 4 * 2 * 2 * 3 * 3 * 3
    assert whole == 432
    assert pytest.approx(1e13, rel=0.51) == 432**5
    assert space.count() == 432**5 * (whole * 2 // 3 + 1) ** 2
    assert space.contains(mnasnet_a1())


def test_autoformers_size_is_stated_as_if_all_layers_were_there_at_every_depth():
    """1.7 × 10¹⁶ over the three supernets: as many archs at each of three depths as at the largest."""
    exact = [autoformer_space(r).count() for r in (TINY, SMALL, BASE)]
    assert exact == [3 * over((12, 13, 14), 4), 3 * over((12, 13, 14), 9), 3 * over((14, 15, 16), 9)]
    as_stated = 3 * 3 * (4**14 + 9**14 + 9**16)
    assert as_stated == pytest.approx(1.7e16, rel=0.01)
    assert sum(exact) < 0.4 * as_stated


@pytest.mark.parametrize("device", ["xeon", "raspberrypi"])
def test_every_tabled_transformer_is_described_by_an_arch_of_hats_space(device: str, data_dir: Path):
    rows = read_rows(data_dir / "nas" / f"hat_wmt14ende_{device}.csv.gz", "")
    assert len(rows) == 2000
    for row in rows:
        numbers = {name: float(text) for name, text in row.items() if not name.startswith("latency")}
        found = averages(with_averages(TABLED, numbers))
        assert found == pytest.approx(numbers, abs=1e-4)


@given(st.integers(0, 2**32))
def test_averages_are_those_of_the_arch_they_are_turned_into(seed: int):
    found = averages(TABLED.sample(random.Random(seed)))
    assert averages(with_averages(TABLED, found)) == pytest.approx(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoder_layer_num": 5.0}, "has 6 layers, not 5"),
        ({"encoder_self_attention_heads_avg": 4.2}, "no 6 of"),
        ({"decoder_embed_dim": 600.0}, "decoder.width must be one of"),
        ({"decoder_layer_num": 7.0}, "decoder.layers must be one of"),
    ],
)
def test_averages_of_no_arch_are_refused(change: dict[str, float], says: str):
    with pytest.raises(InputError, match=says):
        with_averages(TABLED, averages(TABLED.largest()) | change)
