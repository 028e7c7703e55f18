"""Whether a search was worth it: beside random archs at equal cost, and with the ranks its evaluation gives."""

from __future__ import annotations

from sartor.search.audit.beside import compare, random_at_equal_cost, relative_improvement, search_evidence
from sartor.search.audit.tau import kendall_tau, top_tau

__all__ = [
    "compare",
    "kendall_tau",
    "random_at_equal_cost",
    "relative_improvement",
    "search_evidence",
    "top_tau",
]
