"""Latency tables: sums, fits, and how far a sum goes on published measurements."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.predict.light import kendall
from sartor.records import Arch
from sartor.search.methods.linas import linas
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.search.tables.latencies import Latencies, open_latencies
from sartor.search.tables.lookup import Lookup, fbnet_cpu, fit_lookup
from sartor.space import Choice, Space
from sartor.space.macro import FBNET_OPERATORS, fbnet_space
from space.spaces import spaces


@pytest.fixture(scope="module")
def measured(data_dir: Path) -> Latencies:
    return open_latencies("fbnet", data_dir)


def test_published_latencies_are_of_archs_of_their_spaces(data_dir: Path):
    """HAT's tables are described by means, and an arch that has them is found for every row."""
    for name, archs, devices in (("ofa", 5000, 9), ("hat", 2000, 4)):
        found = open_latencies(name, data_dir)
        assert len(found.devices) == devices
        for latencies in found.devices.values():
            assert archs * 0.99 < len(latencies) <= archs  # OFA's list has a few networks twice
            assert all(found.space.contains(arch) for arch in list(latencies)[::50])
            assert min(latencies.values()) > 0


def test_latencies_that_are_not_there_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="choose from nb201, fbnet"):
        open_latencies("nope", tmp_path)
    for text, says in (("a,b\n1,2\n", "is not the published table: 'ops'"), ("ops\n", "has no latencies")):
        with gzip.open(tmp_path / "fbnet_latency.csv.gz", "wt") as file:
            file.write(text)
        with pytest.raises(InputError, match=says):
            open_latencies("fbnet", tmp_path)


@given(spaces(), st.integers(0, 2**32))
def test_what_adds_up_is_fitted_exactly(space: Space, seed: int):
    rng = random.Random(seed)
    truth = Lookup("ms", {c.name: {o: rng.random() for o in c.options} for c in space.choices}, base=rng.random())
    archs = list(space.every())
    fitted = fit_lookup(space, archs, truth(archs), "ms")
    np.testing.assert_allclose(fitted(archs), truth(archs), atol=1e-9)
    assert fitted.evaluate(archs[0]) == {"ms": fitted.of(archs[0])}


@settings(max_examples=20)
@given(spaces(), st.integers(0, 2**32))
def test_an_expectation_is_the_mean_over_all_archs_and_its_slope_is_what_a_chance_costs(space: Space, seed: int):
    rng = random.Random(seed)
    table = Lookup("ms", {c.name: {o: rng.random() for o in c.options} for c in space.choices}, base=rng.random())
    logits = {
        c.name: torch.tensor([rng.gauss(0, 1) for _ in c.options], dtype=torch.float64, requires_grad=True)
        for c in space.choices
    }
    chances = {name: row.softmax(0) for name, row in logits.items()}
    options = {c.name: c.options for c in space.choices}
    likely = [
        math.prod(float(chances[n].detach()[options[n].index(o)]) for n, o in arch.items()) for arch in space.every()
    ]
    assert sum(likely) == pytest.approx(1)
    mean = table.expected(space, chances).detach()
    assert float(mean) == pytest.approx(float(np.dot(likely, table(list(space.every())))))
    assert torch.autograd.gradcheck(
        lambda *rows: table.expected(space, {n: r.softmax(0) for n, r in zip(logits, rows, strict=True)}),
        tuple(logits.values()),
    )


def test_an_expectation_needs_chances_and_rows():
    space = Space((Choice("a", (1, 2)),))
    even = {"a": torch.full((2,), 0.5)}
    for table, chances, says in (
        (Lookup("ms", {"a": {1: 2.0, 2: 1.0}}), {}, "a needs 2 probabilities"),
        (Lookup("ms", {"a": {1: 2.0, 2: 1.0}}), {"a": torch.ones(3)}, "a needs 2 probabilities"),
        (Lookup("ms", {"a": {1: 2.0}}), even, "no a of 2"),
        (Lookup("ms", {"b": {1: 2.0}}), even, "of another space"),
    ):
        with pytest.raises(InputError, match=says):
            table.expected(space, chances)
    many = Lookup("ms", {"a": {1: 2.0, 2: 1.0}}).expected(space, {"a": torch.tensor([[1.0, 0.0], [0.0, 1.0]])})
    assert many.tolist() == [2.0, 1.0]


def test_the_tabled_processor_orders_the_archs_of_other_machines_far_from_by_chance(
    data_dir: Path, measured: Latencies
):
    """Another library on another processor, each operator by itself: some of the order, on every device, not all."""
    table = fbnet_cpu(data_dir)
    assert len(measured.devices) == 19
    for name, latencies in measured.devices.items():
        assert len(latencies) == 5000
        assert 0.25 < kendall(table(list(latencies)), np.array(list(latencies.values()))) < 0.6, name


def test_fitted_to_a_device_a_sum_is_all_there_is_to_an_accelerator_and_most_of_a_processor(measured: Latencies):
    """The FPGA's latencies add up, to the last digit or so; a server's processor's nearly do."""
    for name, wanted in (("fpga", 0.999), ("gold_6226", 0.85), ("silver_4114", 0.75)):
        archs, ms = list(measured.devices[name]), np.array(list(measured.devices[name].values()))
        table = fit_lookup(fbnet_space(), archs[:2000], ms[:2000])
        assert kendall(table(archs[2000:]), ms[2000:]) > wanted, name


def test_fbnets_table_knows_every_operator_of_every_layer(data_dir: Path):
    table, space = fbnet_cpu(data_dir), fbnet_space()
    assert all(set(table.parts[choice.name]) == set(choice.options) for choice in space.choices)
    first = (data_dir / "nas" / "fbnet_cpu_lut.txt").read_text().splitlines()[1].split()
    # The order of the file's header: ir_k3_e1, ir_k3_s2, ir_k3_e3, ...
    assert table.parts["layer0"]["k3_e1"] == float(first[0]) / 1000
    assert table.parts["layer0"]["k3_e1_g2"] == float(first[1]) / 1000
    cheapest = min(table.of(Arch({f"layer{i}": op for i in range(22)})) for op in FBNET_OPERATORS)
    assert cheapest == table.of(space.smallest())


def test_linas_takes_a_table_for_what_it_need_not_predict(data_dir: Path):
    table, space = fbnet_cpu(data_dir), fbnet_space()
    objectives = (Objective("depth", maximise=True), Objective("latency_ms"))

    def evaluate(arch: Arch) -> dict[str, float]:
        return table.evaluate(arch) | {"depth": float(sum(op != "skip" for op in arch.values()))}

    def informed(*args, **more):  # type: ignore[no-untyped-def]
        return linas(*args, **more, known={"latency_ms": table}, population=30, generations=3)

    history = run(space, evaluate, informed, 24, objectives=objectives, batch=4)
    assert len({record.arch for record in history}) == 24


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ir_k3_e1 skip\n1 2\n", "is no table of 22 layers by 2 operators"),
        ("ir_k3_e1 skip\n" + "1 x\n" * 22, "could not convert"),
        ("ir_k3_e1 skip\n" + "1 -1\n" * 22, "is no table"),
        ("", "cannot read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, says: str):
    (tmp_path / "fbnet_cpu_lut.txt").write_text(text)
    with pytest.raises(InputError, match=says):
        fbnet_cpu(tmp_path)


def test_bad_archs_and_costs_are_refused():
    space = Space((Choice("a", (1, 2)),))
    with pytest.raises(InputError, match="no a of 3: choose from 1"):
        Lookup("ms", {"a": {1: 2.0}}).of(Arch({"a": 3}))
    for archs, costs, says in (
        ([space.smallest()], ["x"], "needs numbers"),
        ([Arch({"b": 1})], [1.0], "not an arch of"),
    ):
        with pytest.raises(InputError, match=says):
            fit_lookup(space, archs, costs)
    for archs, costs in (([], []), ([space.smallest()], [1.0, 2.0]), ([space.smallest()], [float("nan")])):
        with pytest.raises(InputError, match="a finite cost of each arch"):
            fit_lookup(space, archs, costs)
