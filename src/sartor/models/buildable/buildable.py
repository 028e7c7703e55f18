"""What a space is with networks of its archs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sartor.records import Arch
from sartor.space.space import Space


@dataclass(frozen=True)
class Buildable:
    """``build(arch)`` is a network of ``space`` with fresh weights, drawn from torch's generator; ``inputs(arch, n)``
    are the tensors that its ``forward`` takes, of a batch of ``n``: images drawn from a normal distribution, or tokens.
    It returns one tensor of floats, whose first dimension is the batch's."""

    space: Space
    build: Callable[[Arch], nn.Module]
    inputs: Callable[[Arch, int], tuple[Tensor, ...]]


def images(n: int, side: int) -> tuple[Tensor, ...]:
    return (torch.randn(n, 3, side, side),)


def tokens(n: int, length: int, vocabulary: int) -> Tensor:
    """Any but the first four, which vocabularies keep for padding and the like."""
    return torch.randint(4, vocabulary, (n, length))
