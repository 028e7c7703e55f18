"""Predictors: fitted to the archs that were evaluated, they say what others would get, and how sure they are.

    from sartor.predict import predictors

    predictor = predictors["graf"](space, 0).fit(archs, accuracies)
    mean, deviation = predictor.predict(others)

:mod:`sartor.predict.light` has the fits to plain arrays that some of them, and the strategies, are made of.
"""

from sartor.predict.named import predictor_of, predictors
from sartor.predict.predictor import ArchPredictor

__all__ = ["ArchPredictor", "predictor_of", "predictors"]
