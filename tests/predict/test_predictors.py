"""The contract of every predictor, and what sets each of them apart."""

from __future__ import annotations

import random

import numpy as np
import pytest

from contracts.predictor import PredictorSuite
from sartor.errors import InputError
from sartor.predict import committee, forest, predictor_of, predictors
from sartor.predict.light import kendall
from sartor.records import Arch
from sartor.space.choice import Choice
from sartor.space.grammar import Production, grammar
from sartor.space.space import Space


class TestRidge(PredictorSuite):
    make = staticmethod(predictors["ridge"])


class TestForest(PredictorSuite):
    make = staticmethod(predictors["forest"])


class TestBoosting(PredictorSuite):
    make = staticmethod(predictors["boosting"])


class TestGaussian(PredictorSuite):
    make = staticmethod(predictors["gaussian"])


@pytest.mark.heavy
class TestBananas(PredictorSuite):
    make = staticmethod(predictors["bananas"])


@pytest.mark.heavy
class TestGraphNetwork(PredictorSuite):
    make = staticmethod(predictors["gcn"])


class TestGraf(PredictorSuite):
    make = staticmethod(predictors["graf"])


@pytest.mark.heavy
class TestFlan(PredictorSuite):
    make = staticmethod(predictors["flan"])


class TestText(PredictorSuite):
    make = staticmethod(predictors["text"])


@pytest.mark.heavy
class TestGennape(PredictorSuite):
    make = staticmethod(predictors["gennape"])


def test_every_predictor_has_the_suite_and_the_suite_has_tests():
    suites = [cls for cls in globals().values() if isinstance(cls, type) and issubclass(cls, PredictorSuite)]
    assert {cls.make for cls in suites if cls is not PredictorSuite} == set(predictors.values())
    assert sum(name.startswith("test_") for name in dir(PredictorSuite)) >= 7


@pytest.mark.parametrize(("name", "home"), [("forest", forest), ("bananas", committee)])
def test_an_arch_is_told_the_same_however_many_it_stands_among(name, home, monkeypatch):
    """Many are looked at part by part: the last part is not whole."""
    space = Space(tuple(Choice(f"layer{i}", (0, 1, 2, 3)) for i in range(5)))
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(50)]
    predictor = predictor_of(name)(space, 0).fit(archs, [sum(map(float, arch.values())) for arch in archs])
    whole = predictor.predict(archs)
    monkeypatch.setattr(home, "TOGETHER", 7)
    for one, other in zip(whole, predictor.predict(archs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(InputError, match="ridge"):
        predictor_of("oracle")


@pytest.mark.parametrize("name", ["ridge", "forest", "gaussian", "graf", "bananas", "text"])
def test_archs_of_a_grammar_are_predicted_too(name):
    """Of derivations there are codes of no fixed width, and trees: what is learnt is their size."""
    rules = {"net": [Production("op", ("kernel",), 2.0), Production("seq", ("net", "net"))]}
    space = grammar(rules | {"kernel": [Production(3), Production(5)]}, start="net", height=6)
    rng = random.Random(0)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(300)))[:90]
    size = np.array([float(len(arch)) for arch in archs])
    predictor = predictors[name](space, seed=0).fit(archs[:50], size[:50])
    assert kendall(size[50:], predictor.predict(archs[50:])[0]) > 0.5
    with pytest.raises(InputError):
        predictor.fit([*archs[:50], Arch({"net": "no such rule"})], np.zeros(51))
