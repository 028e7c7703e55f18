"""The order search against every order there is, and addresses against every pair of buffers."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.measure.plan.arena import arena_bytes, place
from sartor.measure.plan.order import best_order
from sartor.measure.plan.plan import make_plan
from sartor.measure.plan.steps import Problem, Step, buffers, peak


@st.composite
def problems(draw: st.DrawFn, most: int = 6) -> Problem:
    """Random graphs: branches, several inputs and outputs, views, what overwrites, tensors that nobody reads."""
    inputs = [f"x{i}" for i in range(draw(st.integers(1, 2)))]
    sizes = {name: draw(st.integers(0, 6)) for name in inputs}
    steps = []
    for number in range(draw(st.integers(1, most))):
        reads = tuple(draw(st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=3, unique=True)))
        writes = tuple(f"t{number}{i}" for i in range(draw(st.sampled_from([1, 1, 1, 2]))))
        view = draw(st.integers(0, 5)) == 0
        over = tuple(draw(st.lists(st.sampled_from(reads), max_size=2, unique=True)))
        for name in writes:
            sizes[name] = sizes[reads[0]] if view else draw(st.integers(0, 6))
        scratch = draw(st.integers(0, min(sizes[name] for name in writes)))
        steps.append(Step(reads, writes, () if view else over, view, scratch))
    outputs = draw(st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=2, unique=True))
    return Problem(tuple(steps), sizes, tuple(inputs), tuple(outputs))


def orders(problem: Problem, done: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Every order that works."""
    if len(done) == len(problem.steps):
        return [done]
    known = {*problem.inputs, *(name for number in done for name in problem.steps[number].outputs)}
    ready = [n for n, step in enumerate(problem.steps) if n not in done and known.issuperset(step.inputs)]
    return [order for number in ready for order in orders(problem, (*done, number))]


@settings(max_examples=60)
@given(problems())
def test_no_order_needs_less(problem: Problem) -> None:
    found = best_order(problem)
    assert found.exact
    assert found.steps in orders(problem)
    assert found.peak_bytes == peak(problem, found.steps) == min(peak(problem, order) for order in orders(problem))


@given(problems(12))
def test_a_search_cut_short_is_never_worse_than_what_was_given(problem: Problem) -> None:
    found = best_order(problem, limit=1, beam=2)
    assert found.peak_bytes == peak(problem, found.steps) <= peak(problem)
    assert sorted(found.steps) == list(range(len(problem.steps)))
    if found.exact:
        assert found.peak_bytes == best_order(problem).peak_bytes


@given(problems(12), st.sampled_from([1, 4, 16, 64]))
def test_no_two_buffers_that_are_there_at_once_overlap(problem: Problem, alignment: int) -> None:
    for plan in (make_plan(problem, alignment=alignment), make_plan(problem, search=False, alignment=alignment)):
        for a, b in combinations(plan.buffers, 2):
            if a.first <= b.last and b.first <= a.last:
                assert a.end <= b.offset or b.end <= a.offset or not a.size or not b.size
        assert all(buffer.offset % alignment == 0 for buffer in plan.buffers)
        for now in range(-1, len(problem.steps) + 1):
            there = [buffer.size for buffer in plan.buffers if buffer.first <= now <= buffer.last]
            assert sum(there) <= plan.peak_bytes <= plan.arena_bytes
        assert plan.peak_bytes <= plan.given_peak_bytes


@given(problems(12))
def test_searching_never_makes_the_arena_larger(problem: Problem) -> None:
    assert make_plan(problem).arena_bytes <= make_plan(problem, search=False).arena_bytes


@given(problems())
def test_every_live_tensor_is_where_nothing_else_is(problem: Problem) -> None:
    """By the tensors themselves, not by the planner's own lifetimes: a simulated memory in which each cell holds the
    name of what was written there last."""
    plan = make_plan(problem, alignment=1)
    cells: list[str] = [""] * plan.arena_bytes
    views: dict[str, str] = {}

    def write(name: str) -> None:
        start = plan.address[name]
        cells[start : start + problem.sizes[name]] = [name] * problem.sizes[name]

    def check(name: str) -> None:
        start = plan.address[name]
        assert set(cells[start : start + problem.sizes[name]]) <= {views.get(name, name)}

    for name in problem.inputs:
        write(name)
    for number in plan.order:
        step = problem.steps[number]
        for name in step.inputs:
            check(name)
        for name in step.outputs:
            if step.view:
                views[name] = views.get(step.inputs[0], step.inputs[0])
            else:
                write(name)
    for name in problem.outputs:
        check(name)


def test_a_wide_cell_wants_its_large_branches_one_after_the_other() -> None:
    """Four branches that each widen and narrow again: breadth first holds four wide tensors, depth first one."""
    widen = [Step(("x",), (f"w{i}",)) for i in range(4)]
    narrow = [Step((f"w{i}",), (f"n{i}",)) for i in range(4)]
    join = Step(tuple(f"n{i}" for i in range(4)), ("y",))
    sizes = {"x": 2, "y": 4} | {f"w{i}": 100 for i in range(4)} | {f"n{i}": 1 for i in range(4)}
    problem = Problem((*widen, *narrow, join), sizes, ("x",), ("y",))
    assert peak(problem) == 2 + 400
    assert best_order(problem).peak_bytes == 2 + 3 * 1 + 100  # while the last branch widens


@given(st.integers(30, 60))
def test_a_long_chain_is_no_search(length: int) -> None:
    steps = tuple(Step((f"t{i}",), (f"t{i + 1}",)) for i in range(length))
    problem = Problem(steps, {f"t{i}": 1 + i % 5 for i in range(length + 1)}, ("t0",), (f"t{length}",))
    assert best_order(problem, limit=2 * length).exact


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (lambda: Problem((Step(("a",), ("b",)),), {"a": 1, "b": 1}, (), ("b",)), "read before any step writes it"),
        (lambda: Problem((Step(("a",), ("a",)),), {"a": 1}, ("a",), ("a",)), "written twice"),
        (lambda: Problem((Step(("a",), ("b",)),), {"a": 1}, ("a",), ("b",)), "has no size"),
        (lambda: place([], alignment=3), "power of two"),
        (lambda: best_order(Problem((), {"a": 1}, ("a",), ("a",)), limit=0), "at least 1"),
        (lambda: best_order(Problem((), {"a": 1}, ("a",), ("a",), {"b": "a"})), "search before they are cut"),
    ],
)
def test_nonsense_is_one_line(problem: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        problem()  # type: ignore[operator]


def test_an_empty_graph_needs_its_input() -> None:
    plan = make_plan(Problem((), {"a": 7}, ("a",), ("a",)))
    assert (plan.peak_bytes, plan.arena_bytes, plan.order) == (7, 7, ())
    assert arena_bytes(place(buffers(Problem((), {}, (), ())))) == 0
