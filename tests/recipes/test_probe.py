"""What the probe decides: whether images may be mirrored, and whose operator the largest arch gets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from recipes.shop import workshop
from sartor.data import open_data
from sartor.recipes.feasible import may_fit
from sartor.recipes.job import Job
from sartor.recipes.journal import Journal
from sartor.recipes.plan import Clock
from sartor.recipes.probe import SIZES, TIME_FOR_TWO_S, _middle, _size, _space, may_mirror, probe
from sartor.recipes.voice import Voice
from sartor.recipes.workshop import Workshop
from sartor.records import Budget
from sartor.space import OPERATORS, conv_space


@pytest.mark.parametrize(
    ("accuracy", "mirrored", "classes", "expected"),
    [
        (0.65, 0.63, 10, True),  # photographs
        (0.90, 0.45, 10, False),  # digits: mirrored ones are still guessed better than by chance
        (0.12, 0.12, 10, False),  # nothing was learnt, so nothing can be said
        (0.55, 0.55, 2, False),
        (0.95, 0.50, 2, False),  # left and right hands: chance is no agreement
        (0.95, 0.94, 2, True),
    ],
)
def test_images_are_mirrored_where_that_is_known_to_do_no_harm(accuracy, mirrored, classes, expected):
    assert may_mirror(accuracy, mirrored, classes) is expected


def test_the_last_operator_is_the_largest_archs():
    """The winner of a race is given last: what a schedule trains most is then built of it."""
    for operators in (("pooled", "residual"), ("residual", "pooled")):
        space = conv_space(32, operators=operators)
        assert {v for k, v in space.largest().items() if k.endswith(".op")} == {operators[-1]}


def test_a_space_is_no_larger_than_its_budget(tmp_path: Path) -> None:
    """With time enough for any width: in a wide space the smallest networks are wide too."""
    shop = workshop(tmp_path, Budget(max_size_bytes=22_000))
    space_of = partial(_space, shop, operators=("residual",))
    width, depth = _size(shop, space_of, flip=False, supernet_seconds=1e6, limit_s=60.0)
    assert may_fit(shop, _middle(space_of(width, depth)))
    assert not all(may_fit(shop, space_of(*size).smallest()) for size in SIZES)


@pytest.mark.parametrize("time_s", [TIME_FOR_TWO_S / 2, TIME_FOR_TWO_S])
def test_squeeze_excite_has_to_win_its_race(time_s: float, tmp_path: Path) -> None:
    """In a long fit; in a short one it does not race."""
    journal = Journal(tmp_path / "journal.jsonl")
    job = Job("digits", Budget(), time_s, "onnxruntime", 1, ("fp32",), 0, "sandwich")
    shop = Workshop(job, open_data("digits"), tmp_path, journal, Clock(journal), Voice(0))
    probed = probe(shop, 10.0, 5.0, lambda share, note: None)
    plain = [r for r in probed.race if not r["se"]]
    gated = [r for r in probed.race if r["se"]]
    assert {r["operator"] for r in plain} == set(OPERATORS)
    assert len(gated) == (time_s >= TIME_FOR_TWO_S)
    assert all(r["arch"]["s0.se"] for r in gated)
    assert not any(r["arch"]["s0.se"] for r in plain)
    options = {c.options for c in probed.space.choices if c.name.endswith(".se")}
    assert options == {(False, True) if probed.race[0]["se"] else (False,)}
    for result in gated:  # at a latency near the one it has to beat
        rival = next(r for r in plain if r["operator"] == result["operator"])
        assert 1 / 8 < result["latency_ms"] / rival["latency_ms"] < 8  # timed once each, apart
