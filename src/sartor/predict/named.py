"""Every predictor of archs by its name."""

from __future__ import annotations

from collections.abc import Callable

from sartor.errors import InputError
from sartor.predict.bananas import Bananas
from sartor.predict.boosting import Boosting
from sartor.predict.flan import Flan
from sartor.predict.forest import RandomForest
from sartor.predict.gaussian import Gaussian
from sartor.predict.gcn import GraphNetwork
from sartor.predict.gennape import Gennape
from sartor.predict.graf import Graf
from sartor.predict.predictor import ArchPredictor
from sartor.predict.ridge import Ridge
from sartor.predict.text import Text
from sartor.space.space import Space

predictors: dict[str, Callable[[Space, int], ArchPredictor]] = {
    "ridge": Ridge,
    "forest": RandomForest,
    "boosting": Boosting,
    "gaussian": Gaussian,
    "bananas": Bananas,
    "gcn": GraphNetwork,
    "graf": Graf,
    "flan": Flan,
    "text": Text,
    "gennape": Gennape,
}
"""Each is called with a space and a seed. A test gives each the suite in ``tests/contracts/predictor.py``."""


def predictor_of(name: str) -> Callable[[Space, int], ArchPredictor]:
    """The predictor called ``name``. Raises InputError with those there are."""
    if name not in predictors:
        raise InputError(f"unknown predictor {name!r}: choose from {', '.join(predictors)}")
    return predictors[name]
