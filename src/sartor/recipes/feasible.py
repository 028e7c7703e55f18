"""Before anything is trained: which operators have a network that can meet the budget."""

from __future__ import annotations

from collections.abc import Mapping

from sartor.errors import BudgetError
from sartor.measure.counts import counts
from sartor.recipes.workshop import Workshop
from sartor.records import Arch

HOPELESS_FP32, HOPELESS_INT8 = 1.5, 6.0
"""An operator is given up when its smallest draft is so many times over the latency budget: wide margins, for a latency
measured once, and for what 8 bits can give at best. What a draft has exactly needs no margin."""


def feasible(shop: Workshop, smallest: Mapping[str, Arch]) -> list[str]:
    """The operators whose ``smallest`` arch is not hopelessly over the budget.

    Raises BudgetError, naming the nearest, when there is none: a fit that nothing can meet ends before its training.
    """
    if shop.job.budget.unlimited:
        return list(smallest)
    found = {operator: _metrics(shop, arch) for operator, arch in smallest.items()}
    budget = shop.job.budget
    left = [operator for operator, metrics in found.items() if budget.excess(_at_best(shop, metrics)) == 0]
    if not left:
        nearest = min(found, key=lambda operator: budget.excess(found[operator]))
        broken = "; ".join(budget.violations(found[nearest]))
        raise BudgetError(f"no network can meet the budget; the nearest is the smallest {nearest} network: {broken}")
    return left


def may_fit(shop: Workshop, arch: Arch) -> bool:
    """Whether ``arch`` is not hopelessly over the budget."""
    budget = shop.job.budget
    return budget.unlimited or budget.excess(_at_best(shop, _metrics(shop, arch))) == 0


def _metrics(shop: Workshop, arch: Arch) -> dict[str, float]:
    return {**shop.draft(arch), "macs": float(counts(shop.build(arch), shop.shape(arch)).macs)}


def _at_best(shop: Workshop, metrics: dict[str, float]) -> dict[str, float]:
    slack = HOPELESS_INT8 if "int8" in shop.job.precision else HOPELESS_FP32
    return {**metrics, "latency_ms": metrics["latency_ms"] / slack}
