"""The SVG picture: well-formed, inside its frame, and in the order of the numbers."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.fabricated import evidence, fabricate_run, front_records
from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.report.figure import HEIGHT, WIDTH, front_svg, log_ticks, main, nice_ticks, steps
from sartor.report.story import Point

SVG = "{http://www.w3.org/2000/svg}"


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_nice_ticks_cover_in_even_round_steps(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    assert ticks[0] <= low + 1e-6 * width + 1e-9
    assert ticks[-1] >= low + width - 1e-6 * width - 1e-9
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps))
    assert 10 ** (math.log10(gaps[0]) % 1) == pytest.approx(
        min((1, 2, 5, 10), key=lambda s: abs(s - 10 ** (math.log10(gaps[0]) % 1)))
    )


@given(st.floats(1e-4, 1e4), st.floats(1.01, 1e4))
def test_log_ticks_lie_inside(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert len(ticks) >= 2
    assert all(low * (1 - 1e-6) <= t <= low * ratio * (1 + 1e-6) for t in ticks)


@given(st.lists(st.builds(Point, st.just(""), st.floats(0, 1), st.floats(0.01, 10)), min_size=1))
def test_steps_are_the_points_nothing_dominates(points: list[Point]) -> None:
    stairs = steps(points)
    for p in points:
        # Whatever latency is allowed, the staircase offers the best accuracy there is for it.
        assert max(s.accuracy for s in stairs if s.latency_ms <= p.latency_ms) == max(
            q.accuracy for q in points if q.latency_ms <= p.latency_ms
        )
    assert all(a.latency_ms < b.latency_ms and a.accuracy < b.accuracy for a, b in itertools.pairwise(stairs))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1e-3, 1e3), st.sampled_from(["fp32", "int8", "<bf16>"])), min_size=1),
    st.lists(st.tuples(st.floats(0, 1), st.floats(1e-3, 1e3))),
    st.one_of(st.none(), st.floats(1e-3, 1e3)),
)
def test_any_front_draws_inside_its_frame(
    members: list[tuple[float, float, str]], others: list[tuple[float, float]], budget: float | None
) -> None:
    records = [
        Record(f"m<{i}>", Arch({}), precision, {"accuracy_val": a, "latency_ms": t})
        for i, (a, t, precision) in enumerate(members)
    ]
    baselines = [{"name": "a & b", "accuracy_val": a, "latency_ms": t} for a, t in others]
    root = ElementTree.fromstring(front_svg(records, baselines, picked="m<0>", title="<&>", max_latency_ms=budget))
    dots = [c for c in root.iter(f"{SVG}circle") if c.get("r") == "4.5" and c.find(f"{SVG}title") is not None]
    assert len(dots) == len(records)
    assert all(0 <= float(c.get("cx", -1)) <= WIDTH and 0 <= float(c.get("cy", -1)) <= HEIGHT for c in dots)


def test_faster_is_left_and_more_accurate_is_up() -> None:
    root = ElementTree.fromstring(front_svg(front_records(), evidence()["baselines"]))
    place = {}
    for circle in root.iter(f"{SVG}circle"):
        hint = circle.find(f"{SVG}title")
        if hint is not None and hint.text:
            place[hint.text.partition(":")[0]] = (float(circle.get("cx", 0)), float(circle.get("cy", 0)))
    records = {r.name: r.metrics for r in front_records()}
    by_time = sorted(records, key=lambda n: records[n]["latency_ms"])
    by_accuracy = sorted(records, key=lambda n: records[n]["accuracy_test"])
    assert sorted(place, key=lambda n: place[n][0]) == by_time
    assert sorted(place, key=lambda n: -place[n][1]) == by_accuracy


def test_the_command_draws_a_run(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run")
    main([str(run), str(tmp_path / "front.svg")])
    text = (tmp_path / "front.svg").read_text()
    assert "One sartor fit on cifar10" in text
    assert "budget 0.5 ms" in text
    with pytest.raises(SystemExit, match=r"error: .* is not a run"):
        main([str(tmp_path), str(tmp_path / "x.svg")])
    with pytest.raises(SystemExit, match="usage"):
        main([])


def test_a_front_without_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="at least one record"):
        front_svg([Record("a", Arch({}))])
