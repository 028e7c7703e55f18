"""Whether ranks hold in another setting: the same archs at two options of one choice, such as two depths.

Yang et al. (P131, arXiv:1912.12522) find that cells change their ranks between networks of 8 cells and of 20: the depth
gap. What was searched in a shallow setting is then not what is best in a deep one.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.search.audit.tau import kendall_tau, top_tau
from sartor.search.tables.table import Table

MOST_ARCHS = 2000
"""Archs compared: more only make the interval narrower than anyone needs."""


def setting_gap(table: Table, name: str) -> list[dict[str, Any]]:
    """Kendall's tau of the verdicts of archs that are in the table with both of two options of the choice ``name``,
    for each option and the next, and the largest and smallest: ``options``, ``tau``, ``top`` (of the tenth that is best
    with the second option), ``kept`` (the share of that tenth which is in the best tenth with the first, too).

    Raises InputError where there is no such choice, or it has one option.
    """
    choice = next((c for c in table.space.choices if c.name == name), None)
    if choice is None or len(choice.options) < 2:
        names = ", ".join(c.name for c in table.space.choices if len(c.options) > 1)
        raise InputError(f"{table.name} has no choice {name!r} of two options: choose from {names or 'none'}")
    pairs = list(zip(choice.options, choice.options[1:], strict=False))
    if len(choice.options) > 2:
        pairs.append((choice.options[0], choice.options[-1]))
    sign = 1 if table.verdict.maximise else -1
    found = []
    for first, second in pairs:
        others = [(a, a.replace(**{name: second})) for a in table.rows if a.get(name) == first]
        both = [(a, b) for a, b in others if b in table.rows]
        if len(both) > MOST_ARCHS:
            both = random.Random(0).sample(both, MOST_ARCHS)
        values = sign * np.array([[table.judge(a), table.judge(b)] for a, b in both]).reshape(-1, 2)
        a, b = values.T
        k = max(1, len(both) // 10)
        best = [set(np.argsort(-column, kind="stable")[:k].tolist()) for column in (a, b)]
        found.append(
            {
                "choice": name,
                "options": [first, second],
                "tau": kendall_tau(a, b, resamples=500, note=f"{len(both)} archs with both"),
                "top": top_tau(a, b),
                "kept": len(best[0] & best[1]) / k if both else None,
            }
        )
    return found
