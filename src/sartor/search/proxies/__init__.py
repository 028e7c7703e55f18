"""Scores of untrained networks that cost no training: one batch, one or a few passes.

A proxy is ``(model, inputs, targets) -> float``: more is better, NaN where there is nothing to tell. It works on a
copy, so weights, buffers, gradients and modes stay as they were, and it draws from generators of its own.
"""

from sartor.search.proxies.evaluator import proxy_evaluator, rank_sum, rank_sum_evaluator
from sartor.search.proxies.named import Proxy, proxies, proxy_of

__all__ = ["Proxy", "proxies", "proxy_evaluator", "proxy_of", "rank_sum", "rank_sum_evaluator"]
