"""Latency of a relaxed arch, as a network that gradients go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.committee import seeded
from sartor.predict.predictor import Floats, checked, unfitted
from sartor.records import Arch
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor, nn

HIDDEN = 128
STEPS, BATCH, RATE = 1500, 64, 3e-3


@dataclass
class RelaxedLatency:
    """A regressor of latencies on the probabilities of an arch's options (P225, Xu et al., arXiv:2001.06392): fitted to
    measured archs, whose probabilities are ones and zeros, and asked of mixtures, in which it is differentiable.

    Deviation: it learns logarithms, so that errors are shares. To predict archs, not mixtures, ask
    :class:`sartor.predict.latency.Latency`, which needs fewer measurements and has intervals.
    """

    space: Space
    seed: int = 0
    _net: nn.Module | None = field(default=None, init=False, repr=False)
    _middle: float = field(default=0.0, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> RelaxedLatency:
        """Fit to positive ``values`` ``[n]`` of ``archs``, and return itself. Raises InputError as a predictor does."""
        import torch
        from torch import nn

        y = checked(self.space, archs, values)
        if not (y > 0).all():
            raise InputError("latencies must be positive: leave out what could not be measured")
        rows = torch.tensor(self._rows(archs), dtype=torch.float32)
        self._middle = float(np.log(y).mean())
        wanted = torch.tensor(np.log(y) - self._middle, dtype=torch.float32)
        with seeded(self.seed):
            net = nn.Sequential(
                nn.Linear(rows.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1)
            )
            optimiser = torch.optim.AdamW(net.parameters(), lr=RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
            for _ in range(STEPS):
                drawn = torch.randint(len(rows), (min(BATCH, len(rows)),))
                optimiser.zero_grad(set_to_none=True)
                nn.functional.smooth_l1_loss(net(rows[drawn]).squeeze(1), wanted[drawn], beta=0.1).backward()
                optimiser.step()
                schedule.step()
        self._net = net.eval().requires_grad_(False)
        return self

    def predict(self, archs: Sequence[Arch]) -> Floats:
        """What ``archs`` take ``[n]``."""
        import torch

        if self._net is None:
            raise unfitted("the relaxed latency")
        said = self._net(torch.tensor(self._rows(archs), dtype=torch.float32)).squeeze(-1) + self._middle
        return np.asarray(said.exp().double().numpy())

    def __call__(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """What a mixture takes ``[...]``: choice → ``[..., options]``, of every choice of the space. Raises InputError
        where one lacks, or has another number of options."""
        import torch

        if self._net is None:
            raise unfitted("the relaxed latency")
        held = []
        for choice in self.space.choices:
            given = probabilities.get(choice.name)
            if given is None or given.ndim == 0 or given.shape[-1] != len(choice.options):
                raise InputError(f"{choice.name} needs {len(choice.options)} probabilities, one of each option")
            held.append(given.float())
        return torch.exp(self._net(torch.cat(held, dim=-1)).squeeze(-1) + self._middle)

    def _rows(self, archs: Sequence[Arch]) -> Floats:
        options = sum(len(choice.options) for choice in self.space.choices)
        return self.space.encode_many(archs)[:, :options]
