"""What is said of the time left: never that it grows by itself, and something before anything is known."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st

from sartor.recipes.voice import SURE, Voice, left

SECONDS = st.floats(0.0, 1e5)


@given(st.floats(SURE, 1.0), SECONDS, SECONDS | st.none(), SECONDS)
def test_what_is_left_follows_from_the_pace(share: float, at: float, planned: float | None, later: float) -> None:
    now = left(share, at, planned, at)
    assert now is not None
    assert now == max(0.0, at / share - at)
    then = left(share, at, planned, at + later)
    assert then is not None
    assert 0 <= then <= now


@given(st.floats(0.0, SURE, exclude_max=True), SECONDS, SECONDS, SECONDS)
def test_before_there_is_a_pace_the_plan_tells(share: float, at: float, planned: float, elapsed: float) -> None:
    assert left(share, at, planned, elapsed) == max(0.0, planned - elapsed)
    assert left(share, at, None, elapsed) is None


def test_a_bar_on_a_terminal_ends_full() -> None:
    out = io.StringIO()
    with Voice(1, out, terminal=True).stage("search", 60.0) as tick:
        tick(0.05, "search a1")
        tick(0.5, "search a2")
    shares = [int(n) for n in re.findall(r"(\d+)%", out.getvalue())]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert re.search(r"left .*0:0\d:\d\d", out.getvalue())


def test_without_a_terminal_a_stage_is_a_line() -> None:
    out = io.StringIO()
    with Voice(1, out, terminal=False).stage("search", 60.0) as tick:
        tick(0.5, "a1")
    assert out.getvalue() == "· search\n"
