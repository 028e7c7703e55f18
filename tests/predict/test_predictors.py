"""The contract of every predictor, and what sets each of them apart."""

from __future__ import annotations

import pytest

from contracts.predictor import PredictorSuite
from sartor.errors import InputError
from sartor.predict import predictor_of, predictors


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


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(InputError, match="ridge"):
        predictor_of("oracle")
