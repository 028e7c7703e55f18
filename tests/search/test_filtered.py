"""Strategies behind a filter."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from contracts.strategy import FLAT
from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.loop import search
from sartor.search.methods.evolution import evolution
from sartor.search.methods.filtered import filtered
from sartor.search.methods.random import random_search
from sartor.search.objective import Objective

WORTH = (Objective("worth", maximise=True),)


def worth(arch: Arch) -> float:
    return float(FLAT.encode(arch) @ np.arange(len(FLAT.encode(arch))))


def test_what_scores_highest_of_what_was_proposed_is_left() -> None:
    proposed = random_search(FLAT, (), random.Random(0), 12)
    left = filtered(FLAT, (), random.Random(0), 3, score=lambda a: list(map(worth, a)), strategy=random_search, among=4)
    assert left == sorted(proposed, key=worth, reverse=True)[:3]
    worst = filtered(
        FLAT, (), random.Random(0), 11, score=lambda a: [np.nan, *range(21)], strategy=random_search, among=2
    )
    first = random_search(FLAT, (), random.Random(0), 22)
    assert worst == first[:10:-1]


def test_a_filter_of_one_is_the_strategy() -> None:
    plain = search(FLAT, lambda a: {"worth": worth(a)}, partial(evolution, objectives=WORTH), evaluations=30, seed=1)
    same = partial(filtered, score=lambda a: np.zeros(len(a)), among=1, objectives=WORTH)
    assert [r.arch for r in search(FLAT, lambda a: {"worth": worth(a)}, same, evaluations=30, seed=1)] == [
        r.arch for r in plain
    ]


def test_a_filter_that_knows_needs_fewer_evaluations() -> None:
    """Of a noisy score, over seeds: evaluations until one is as good as the best of a hundred random archs."""

    def needed(strategy, seed: int) -> int:
        best = [-np.inf]

        def evaluate(arch: Arch) -> dict[str, float]:
            best[0] = max(best[0], worth(arch))
            return {"worth": worth(arch)}

        stop = lambda: best[0] >= target
        return len(search(FLAT, evaluate, strategy, evaluations=150, seed=seed, batch=1, should_stop=stop))

    rng = random.Random(0)
    values = [worth(FLAT.sample(rng)) for _ in range(100)]
    target, spread = max(values), float(np.std(values))

    def score(archs: list[Arch]) -> np.ndarray:
        noise = [np.random.default_rng(int(arch.key[:8], 16)).normal() for arch in archs]
        return np.array(list(map(worth, archs))) + spread * np.array(noise)

    plain = [needed(partial(evolution, objectives=WORTH), seed) for seed in range(5)]
    helped = [needed(partial(filtered, score=score, objectives=WORTH), seed) for seed in range(5)]
    assert sum(helped) < sum(plain) / 2


def test_scores_of_other_numbers_are_told_off() -> None:
    with pytest.raises(InputError, match="a number for each"):
        filtered(FLAT, (), random.Random(0), 2, score=lambda a: [1.0])
    with pytest.raises(InputError, match="1 or more"):
        filtered(FLAT, (), random.Random(0), 2, score=lambda a: [1.0], among=0)
