"""ScheduledDropPath: paths of a cell are left out at random, more of them the longer the training has gone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sartor.errors import InputError


class DropPath(nn.Module):
    """In training, each example's whole tensor is zero with ``probability`` and scaled by 1/(1 − probability) else, so
    that the mean stays; outside it, nothing. [b, ...] → [b, ...]. Larsson et al., arXiv:1605.07648 §3.1 (drop-path);
    NASNet's form (arXiv:1707.07012 appendix A). ``depth`` is how far from the input it stands, in (0, 1]."""

    def __init__(self, depth: float = 1.0):
        super().__init__()
        self.depth = depth
        self.probability = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        kept = x.new_full((len(x), *(1 for _ in x.shape[1:])), 1 - self.probability)
        return x * torch.bernoulli(kept) / kept

    def extra_repr(self) -> str:
        return f"probability={self.probability:g}"


def scheduled_drop_path(network: nn.Module, progress: float, *, final: float = 0.3, by_depth: bool = True) -> None:
    """Set what every :class:`DropPath` of ``network`` drops at ``progress`` in [0, 1] of the training: ``final`` times
    that, which is NASNet's linear ramp (arXiv:1707.07012 appendix A); ``by_depth``: times its depth too, as the
    authors' code has it and the paper does not say. Raises InputError for numbers out of range."""
    if not 0 <= progress <= 1 or not 0 <= final < 1:
        raise InputError(f"progress is in [0, 1] and final in [0, 1), not {progress} and {final}")
    for module in network.modules():
        if isinstance(module, DropPath):
            module.probability = final * progress * (module.depth if by_depth else 1.0)
