"""ResNet-RS's training: what ResNets gain without another network, one toggle each (P050, arXiv:2103.07579)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from torch import Tensor

from sartor.errors import InputError
from sartor.train.augment import rand_augment
from sartor.train.loop import Recipe


@dataclass(frozen=True)
class Improvements:
    """The paper's training methods and its two changes of the network, in the order of its Table 1 (§4). Each is off
    where it has the value that ``VANILLA`` has.

    ``ema_half_life`` is a share of the training: an average that keeps 0.9999 a step over 350 epochs of 313 steps.
    ``rand_augment``: a magnitude, in two layers. ``decay_share``: of the base recipe's weight decay, 4e-5 of 1e-4.
    ``drop_path``, ``dropout`` and ``rand_augment`` are the more the larger a network (Table 8); the numbers here are
    the smallest one's, and stochastic depth's the smallest that is not none.
    """

    descent: Literal["steps", "cosine"] = "cosine"
    ema_half_life: float = 0.063
    label_smoothing: float = 0.1
    drop_path: float = 0.1
    rand_augment: float = 10
    dropout: float = 0.25
    decay_share: float = 0.4
    squeeze: bool = True
    resnet_d: bool = True

    def recipe(self, base: Recipe) -> Recipe:
        """``base`` with what of these is in the loop."""
        return replace(
            base,
            descent=self.descent,
            ema_half_life=self.ema_half_life,
            label_smoothing=self.label_smoothing,
            weight_decay=base.weight_decay * self.decay_share,
        )

    def network(self) -> dict[str, Any]:
        """What of these is in the network: options of :func:`sartor.models.resnet_rs.resnet_rs`."""
        return {
            "squeeze": self.squeeze,
            "resnet_d": self.resnet_d,
            "drop": self.dropout,
            "drop_path": self.drop_path,
        }

    def augment(self) -> Callable[[Tensor, int], Tensor] | None:
        """What of these is done to images: for :class:`sartor.train.steps.Inputs`."""
        return partial(rand_augment, magnitude=self.rand_augment) if self.rand_augment else None

    def without(self, name: str) -> Improvements:
        """All but one. Raises InputError for a name that is none of the fields."""
        return self._as_vanilla(name)

    def added(self) -> dict[str, Improvements]:
        """One after the other, as in the paper's Table 1: by the name of the last one added, first none of them."""
        found, rest = {"vanilla": self._as_vanilla(*TOGGLES)}, list(TOGGLES)
        while rest:
            name = rest.pop(0)
            found[name] = self._as_vanilla(*rest)
        return found

    def _as_vanilla(self, *names: str) -> Improvements:
        if unknown := [name for name in names if name not in TOGGLES]:
            raise InputError(f"ResNet-RS has no {unknown[0]}: take one of {', '.join(TOGGLES)}")
        return replace(self, **{name: getattr(VANILLA, name) for name in names})


VANILLA = Improvements("steps", 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, squeeze=False, resnet_d=False)
"""He et al.'s training (arXiv:1512.03385) as the paper's baseline has it: a stepwise learning rate, crops and flips."""
TOGGLES = tuple(field.name for field in fields(Improvements))
