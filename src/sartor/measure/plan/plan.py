"""A memory plan: an order, and an address for every buffer."""

from __future__ import annotations

from dataclasses import dataclass

from sartor.measure.plan.arena import ALIGNMENT, Placed, arena_bytes, place
from sartor.measure.plan.order import LIMIT, best_order
from sartor.measure.plan.steps import Problem, buffers, peak


@dataclass(frozen=True)
class Plan:
    """``order``: numbers of the problem's steps as they run. ``peak_bytes``: of the buffers there at once, which no
    placement can be below; ``arena_bytes``: of the block that holds them at their addresses. ``given_peak_bytes``: of
    the order that was given. ``exact``: no order has a lower peak."""

    order: tuple[int, ...]
    buffers: tuple[Placed, ...]
    peak_bytes: int
    arena_bytes: int
    given_peak_bytes: int
    exact: bool

    @property
    def address(self) -> dict[str, int]:
        """Where each tensor lives while it does."""
        return {tensor: buffer.offset for buffer in self.buffers for tensor in buffer.tensors}


def make_plan(problem: Problem, *, search: bool = True, alignment: int = ALIGNMENT, limit: int = LIMIT) -> Plan:
    """Plan ``problem`` in its best order, or without ``search`` in its own; one with parts has no other.

    Raises InputError.
    """
    given = peak(problem)
    own = tuple(range(len(problem.steps)))
    order, exact = own, False
    if search and not problem.parts:
        found = best_order(problem, limit=limit)
        order, exact = found.steps, found.exact
    placed = place(buffers(problem, order), alignment=alignment)
    if order != own:
        # An order with a lower peak can still leave worse gaps: the arena is what a device must have.
        before = place(buffers(problem), alignment=alignment)
        if arena_bytes(before) < arena_bytes(placed):
            order, placed, exact = own, before, exact and given == peak(problem, order)
    return Plan(order, placed, peak(problem, order), arena_bytes(placed), given, exact)
