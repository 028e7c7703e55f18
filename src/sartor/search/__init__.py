"""Searching a space for the archs that no other arch dominates.

A strategy is a function ``(space, history, rng, n) -> archs``; ``loop.search`` drives it, ``workers`` does so in many
processes, ``store`` keeps what it found, ``audit`` says whether it was worth it. One strategy a file in ``methods``,
its name in ``named``. Latency arrives as a metric: nothing here can measure.
"""

from sartor.search.named import run, strategies

__all__ = ["run", "strategies"]
