"""A committee of small networks, trained at once: each leaves out a fold, and what it says of that fold tells how wrong
the committee is.

Krogh & Vedelsby, "Neural network ensembles, cross validation, and active learning" (NIPS 1994): members see other
data, their disagreement is the part of the error that more data would mend, and held-out residuals are the rest.
Rejected: members that see everything, as BANANAS has them: what they disagree by leaves the noise out, and there is no
held-out arch to tell it.

Every parameter has a leading dimension of members and all are multiplied in one call: on tensors this small a call
costs more than what it computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sartor.predict.predictor import Floats

if TYPE_CHECKING:
    from torch import Tensor

MEMBERS = 5
"""As many as BANANAS has (arXiv:1910.11858 §4)."""

TOGETHER = 4096
"""Archs that are looked at in one call: what is between two layers stays in the processor's cache."""

Arrays: TypeAlias = Mapping[str, NDArray]
"""What a network takes, by name, each ``[n, ...]``."""
Parameters: TypeAlias = "dict[str, Tensor]"
"""By name, each ``[members, ...]``."""
Inputs: TypeAlias = "dict[str, Tensor]"
"""By name, each ``[members, batch, ...]``."""
Forward: TypeAlias = "Callable[[Parameters, Inputs], Tensor]"
"""Outputs ``[members, batch]``."""
Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""Of outputs and targets ``[members, batch]``, one number a member ``[members]``."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from ``seed`` on one thread, and leaves torch's generators and threads as they were."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators, too
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def drawn(*shape: int, members: int = MEMBERS) -> Tensor:
    """Weights ``[members, *shape]`` that keep a signal's variance through a rectifier (He et al., arXiv:1502.01852);
    the last dimension but one of ``shape`` is summed over."""
    import torch

    return torch.randn(members, *shape) * (2 / shape[-2]) ** 0.5


def zeros(*shape: int, members: int = MEMBERS) -> Tensor:
    import torch

    return torch.zeros(members, *shape)


def squared(said: Tensor, wanted: Tensor) -> Tensor:
    return ((said - wanted) ** 2).mean(dim=1)


@dataclass(frozen=True)
class Committee:
    """Trained members. ``left_out``: what was said of each arch ``[n]`` by the one that had not seen it; ``noise``: the
    variance of its error."""

    parameters: Parameters
    forward: Forward
    left_out: Floats
    noise: float

    def __call__(self, arrays: Arrays) -> tuple[Floats, Floats]:
        """Mean and standard deviation ``[n]``, in the targets' unit."""
        said = self.members(arrays)
        return said.mean(axis=0), np.sqrt(said.var(axis=0) + self.noise)

    def members(self, arrays: Arrays) -> Floats:
        """What each member says ``[members, n]``."""
        import torch

        n = len(next(iter(arrays.values())))
        with seeded(0), torch.no_grad():
            parts = [
                self.forward(self.parameters, {k: _shared(v[i : i + TOGETHER]) for k, v in arrays.items()})
                for i in range(0, max(1, n), TOGETHER)
            ]
            return torch.cat(parts, dim=1).double().numpy()


def fit_committee(
    start: Callable[[], Parameters],
    forward: Forward,
    arrays: Arrays,
    targets: Floats,
    *,
    seed: int,
    loss: Loss = squared,
    epochs: int,
    batch: int = 16,
    rate: float,
    decay: float = 1e-3,
    fixed: tuple[str, ...] = (),
) -> Committee:
    """Train ``start()`` on ``targets`` ``[n]`` by AdamW with a cosine schedule. Parameters named in ``fixed`` stay."""
    import torch

    with seeded(seed):
        rng = np.random.default_rng(seed)
        n = len(targets)
        folds = np.arange(n) % MEMBERS
        rng.shuffle(folds)
        parameters = {name: tensor.requires_grad_(name not in fixed) for name, tensor in start().items()}
        free = [tensor for tensor in parameters.values() if tensor.requires_grad]
        least = int(np.bincount(folds, minlength=MEMBERS).max())
        seen = n - least  # members see equally many, so that their batches are one tensor
        steps = max(1, seen // batch)
        size = min(batch, seen)
        optimiser = torch.optim.AdamW(free, lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
        tensors = {name: _tensor(array) for name, array in arrays.items()}
        wanted = _tensor(targets)
        own = [np.flatnonzero(folds != j) for j in range(MEMBERS)]
        for _ in range(epochs):
            order = np.stack([rng.permutation(rows)[:seen] for rows in own])
            for step in range(steps):
                rows = torch.from_numpy(order[:, step * size : (step + 1) * size])
                said = forward(parameters, {name: tensor[rows] for name, tensor in tensors.items()})
                optimiser.zero_grad(set_to_none=True)
                loss(said, wanted[rows]).sum().backward()
                torch.nn.utils.clip_grad_norm_(free, 10.0 * MEMBERS)
                optimiser.step()
                schedule.step()
        trained = {name: tensor.detach() for name, tensor in parameters.items()}
        with torch.no_grad():
            everything = forward(trained, {name: _shared(array) for name, array in arrays.items()}).double().numpy()
    left_out = everything[folds, np.arange(n)]
    return Committee(trained, forward, left_out, float(((left_out - targets) ** 2).mean()))


def _tensor(array: NDArray) -> Tensor:
    import torch

    return torch.from_numpy(array if array.dtype.kind == "i" else array.astype(np.float32))


def _shared(array: NDArray) -> Tensor:
    return _tensor(array).expand(MEMBERS, *array.shape)
