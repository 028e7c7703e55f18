"""A predictor that first learns what costs nothing to know: FBNetV3's. Dai et al., P043 (arXiv:2006.02049)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.strategy import fresh
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = NDArray[np.float64]


class Pretrained:
    """A network on the space's encoding, whose encoder is trained first to tell ``statistics`` of random archs.

    Statistics are MACs and parameters, say. Then the encoder, of two layers, and a head, which sees the choices that
    the encoder does not beside what it makes of the others, are trained on the archs evaluated, by Huber's loss. From
    thirty archs it ranked NAS-Bench-Macro better by that; pairs of perceptrons and recipes on the digits, where recipes
    matter more than sizes, by no more than luck (``benchmarks/surrogates.py --only recipes``).

    ``about`` is the part of a joined space (:func:`sartor.space.joint.join`) that statistics say something of: the
    encoder sees its choices alone, and the head the others, recipes in the paper. Without it, both see all.
    ``draws`` archs are asked for their statistics, once for all fits; without ``statistics`` it begins at random.
    An ``ArchPredictor``; the deviation that it predicts is that of its residuals, the same for all archs.
    Raises InputError where ``about`` is no part of the space.
    """

    def __init__(
        self,
        space: Space,
        statistics: Callable[[Arch], Sequence[float]] | None = None,
        *,
        about: str | None = None,
        draws: int = 512,
        hidden: int = 64,
        steps: int = 200,
        lr: float = 0.01,
        seed: int = 0,
    ):
        self._space, self._statistics = space, statistics
        self._draws, self._hidden, self._steps, self._lr, self._seed = draws, hidden, steps, lr, seed
        self._seen, self._beside = _columns(space, about)
        self._start: dict[str, Tensor] | None = None
        self._fitted: tuple[Callable[[Tensor], Tensor], float, float, float] | None = None

    def fit(self, archs: Sequence[Arch], values: Floats) -> Pretrained:
        """Fine-tune to ``values`` [n]. Raises InputError where there are fewer than two or they are not finite."""
        import torch
        from torch import nn

        y = np.asarray(values, dtype=np.float64)
        if len(archs) < 2 or y.shape != (len(archs),) or not np.isfinite(y).all():
            raise InputError(f"a predictor needs two archs at least and a finite value of each, not {len(archs)}")
        body, x = self._body(), self._encoded(archs)
        generator = torch.Generator().manual_seed(self._seed + 1)
        wide = self._hidden + len(self._beside)
        head = nn.Sequential(_linear(wide, self._hidden, generator), nn.ReLU(), _linear(self._hidden, 1, generator))
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        target = torch.tensor((y - mean) / scale, dtype=torch.float32)[:, None]

        def model(rows: Tensor) -> Tensor:
            return head(torch.cat([body(rows[:, self._seen]), rows[:, self._beside]], dim=1))

        self._train(model, [*body.parameters(), *head.parameters()], x, target, lr=self._lr / 3)
        self._fitted = (model, mean, scale, 0.0)
        residual = float(np.std(self.predict(archs)[0] - y))
        self._fitted = (model, mean, scale, residual)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """Mean ``[n]`` and standard deviation ``[n]``. Raises InputError before :meth:`fit`."""
        import torch

        if self._fitted is None:
            raise InputError("the predictor has not been fitted: call fit first")
        model, mean, scale, residual = self._fitted
        with torch.no_grad():
            found = model(self._encoded(archs))[:, 0].numpy().astype(np.float64)
        return mean + scale * found, np.full(len(archs), residual)

    def _encoded(self, archs: Sequence[Arch]) -> Tensor:
        import torch

        return torch.tensor(np.stack([self._space.encode(arch) for arch in archs]), dtype=torch.float32)

    def _body(self) -> nn.Module:
        """The encoder as pretraining leaves it; trained when it is first asked for."""
        import torch
        from torch import nn

        generator = torch.Generator().manual_seed(self._seed)
        body = nn.Sequential(
            _linear(len(self._seen), self._hidden, generator),
            nn.ReLU(),
            _linear(self._hidden, self._hidden, generator),
            nn.ReLU(),
        )
        if self._start is None and self._statistics is not None:
            rng = random.Random(self._seed)
            archs = fresh(self._space, lambda: self._space.sample(rng), rng, self._draws, (), patience=2)
            known = np.array([list(self._statistics(arch)) for arch in archs], dtype=np.float64)
            if not np.isfinite(known).all():
                raise InputError("statistics must be finite numbers, for every arch")
            known = (known - known.mean(axis=0)) / np.where(known.std(axis=0) > 0, known.std(axis=0), 1)
            model = nn.Sequential(body, _linear(self._hidden, known.shape[1], generator))
            target = torch.tensor(known, dtype=torch.float32)
            x = self._encoded(archs)[:, self._seen]
            self._train(model, list(model.parameters()), x, target, lr=self._lr)
            self._start = {name: value.detach().clone() for name, value in body.state_dict().items()}
        if self._start is not None:
            body.load_state_dict(self._start)
        return body

    def _train(
        self, model: Callable[[Tensor], Tensor], weights: list[nn.Parameter], x: Tensor, y: Tensor, *, lr: float
    ) -> None:
        import torch

        optimiser = torch.optim.Adam(weights, lr, weight_decay=1e-4)
        for _ in range(self._steps):
            loss = torch.nn.functional.huber_loss(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _columns(space: Space, about: str | None) -> tuple[list[int], list[int]]:
    """The columns of an encoding that the encoder sees, and those that the head sees beside it."""
    owners = [choice.name for choice in space.choices for _ in choice.options] + [c.name for c in space.choices]
    if about is None:
        return list(range(len(owners))), list(range(len(owners)))
    inside = [name.startswith(f"{about}.") for name in owners]
    if not any(inside):
        raise InputError(f"no choice begins with {about}.: the space was not joined of a part {about!r}")
    return [i for i, held in enumerate(inside) if held], [i for i, held in enumerate(inside) if not held]


def _linear(inputs: int, outputs: int, generator: object) -> nn.Linear:
    """A layer whose weights ``generator`` draws: torch's own is left as it is."""
    from torch import nn

    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = inputs**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)
    return layer
