"""Numbers as people read them: what is written is the number, to three significant digits."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.records import parse_quantity
from sartor.report import story, units

PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}

positive = st.floats(min_value=1e-3, max_value=9e11)


@given(positive)
def test_count_reads_back_to_three_digits(value: float) -> None:
    match = re.fullmatch(r"([\d.,]+) ?([kMG]?)", units.count(value))
    assert match is not None
    read = float(match[1].replace(",", "")) * PREFIX[match[2]]
    assert read == pytest.approx(value, rel=5.1e-3)


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_significant_never_shows_an_exponent(value: float) -> None:
    text = units.significant(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=5.1e-3)


@given(st.floats(min_value=10, max_value=4e5))
def test_duration_reads_back(seconds: float) -> None:
    factor = {"s": 1, "min": 60, "h": 3600}
    read = sum(float(n) * factor[unit] for n, unit in re.findall(r"([\d.]+) (s|min|h)", units.duration(seconds)))
    # From an hour on it is written to the minute, below to the second.
    assert abs(read - seconds) <= (30 if seconds >= 3599.5 else 0.5) + 1e-6


@pytest.mark.parametrize(
    ("value", "text"), [(0.031, "+3.1"), (-0.004, "−0.4"), (0.0002, "0.0"), (-0.0002, "0.0")], ids=str
)
def test_points_are_signed_and_zero_is_not(value: float, text: str) -> None:
    assert units.points(value) == text


def test_budgets_are_written_as_they_were_given() -> None:
    assert units.limit("latency_ms", parse_quantity("0.5ms", "latency")) == "0.5 ms"
    assert units.limit("size_bytes", parse_quantity("1MB", "size")) == "1 MB"
    assert units.limit("macs", parse_quantity("20M", "count")) == "20 M"
    assert units.limit("latency_ms", parse_quantity("120ms", "latency")) == "120 ms"


def test_what_was_not_measured_is_a_dash() -> None:
    assert units.write("macs", None) == units.ms(math.nan) == units.percent(math.inf) == "–"


@given(
    latency=st.decimals(min_value="0.01", max_value="1000", places=2),
    size=st.integers(1, 10**10),
    macs=st.integers(1, 10**12),
    seconds=st.integers(1, 10**6),
)
def test_the_command_asks_for_the_same_budgets(latency: object, size: int, macs: int, seconds: int) -> None:
    """Whatever the arguments were, the command line in the report parses back to them."""
    budget = {"max_latency_ms": float(str(latency)), "max_size_bytes": size, "max_macs": macs, "time_s": float(seconds)}
    words = story.command({"data": "my photos", **budget}).split()
    options = dict(itertools.pairwise(words))
    assert parse_quantity(options["--max-latency"], "latency") == pytest.approx(budget["max_latency_ms"], rel=1e-12)
    assert parse_quantity(options["--max-size"], "size") == size
    assert parse_quantity(options["--max-macs"], "count") == macs
    assert parse_quantity(options["--time"], "time") == seconds
    assert story.command({"data": "my photos"}) == "sartor fit 'my photos'"
