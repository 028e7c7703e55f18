"""What a network costs. The package is the function too: ``sartor.measure(model, inputs)``.

It has the name of the verb ``sartor measure``, does what :func:`sartor.measure.model.measure_model` does, with the same
arguments, and loads it (and torch) when it is first called. Rejected: a function of another name beside the package,
which people have to know, and a function in the package's place, under which ``sartor.measure.targets`` is gone.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sartor.measure.model import measure_model


class Measure(ModuleType):
    """A module that can be called."""

    if TYPE_CHECKING:
        __call__ = staticmethod(measure_model)
    else:

        def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            from sartor.measure.model import measure_model

            return measure_model(*args, **kwargs)

        @property
        def __signature__(self) -> inspect.Signature:
            from sartor.measure.model import measure_model

            return inspect.signature(measure_model)


sys.modules[__name__].__class__ = Measure
