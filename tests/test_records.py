"""Arch, Budget, Record and front: identities, and bad values refused in one line."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.records import Arch, Budget, Record, front, parse_quantity

options = (
    st.text(max_size=8)
    | st.integers(-(2**40), 2**40)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
archs = st.dictionaries(st.text(min_size=1, max_size=8), options, max_size=6).map(Arch)
points = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 10)), max_size=30)


@given(archs)
def test_an_arch_survives_json(arch: Arch) -> None:
    again = Arch.from_json(arch.to_json())
    assert again == arch
    assert again.key == arch.key
    assert hash(again) == hash(arch)


@given(st.dictionaries(st.text(min_size=1, max_size=8), options, min_size=2, max_size=6))
def test_the_order_of_choices_does_not_matter(choices: dict[str, object]) -> None:
    assert Arch(choices) == Arch(dict(reversed(choices.items())))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": null}', '{"a": [1]}', '{"a": {}}', "{"])
def test_what_is_no_arch_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="arch"):
        Arch.from_json(text)


def record(name: str, accuracy: float, latency: float) -> Record:
    return Record(name, Arch({"a": name}), metrics={"accuracy_val": accuracy, "latency_ms": latency})


@given(points)
def test_the_front_is_what_nothing_dominates(values: list[tuple[float, float]]) -> None:
    """Against the definition, pair by pair."""
    records = [record(str(i), a, ms) for i, (a, ms) in enumerate(values)]
    kept = front(records)
    assert len({(r.metrics["accuracy_val"], r.metrics["latency_ms"]) for r in kept}) == len(kept)
    expected = {(a, ms) for a, ms in values if not any(b >= a and m <= ms and (b > a or m < ms) for b, m in values)}
    assert {(r.metrics["accuracy_val"], r.metrics["latency_ms"]) for r in kept} == expected


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_budget_is_broken_exactly_when_it_is_exceeded(limit: float, latency: float) -> None:
    budget = Budget(max_latency_ms=limit)
    metrics = {"latency_ms": latency}
    assert bool(budget.violations(metrics)) == (latency / limit > 1) == (budget.excess(metrics) > 0)


def test_no_limit_is_never_broken() -> None:
    assert Budget().excess({"latency_ms": 1e9, "macs": 1e18}) == 0


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf, "2ms", -0.0])
def test_a_limit_is_a_positive_number(limit: object) -> None:
    with pytest.raises(InputError, match="max_macs must be a positive number"):
        Budget(max_macs=limit)  # type: ignore[arg-type]


def test_a_record_survives_json() -> None:
    one = Record("m1", Arch({"w": 3}), "int8", {"latency_ms": 0.5}, {"seed": 0})
    assert Record.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    with pytest.raises(InputError, match="not a record"):
        Record.from_dict({"name": "m1"})


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("2ms", "latency", 2.0),
        ("500us", "latency", 0.5),
        ("0.5s", "latency", 500.0),
        ("1MB", "size", 1e6),
        ("512KiB", "size", 512 * 1024),
        ("20M", "count", 20e6),
        ("1e3", "count", 1000.0),
        ("30m", "time", 1800.0),
        (" 2 h ", "time", 7200.0),
    ],
)
def test_quantities(text: str, kind: str, value: float) -> None:
    assert parse_quantity(text, kind) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("2", "latency"), ("2MB", "latency"), ("", "size"), ("-1ms", "latency"), ("0ms", "latency"), ("1e999s", "time")],
)
def test_senseless_quantities(text: str, kind: str) -> None:
    with pytest.raises(InputError, match="such as"):
        parse_quantity(text, kind)
