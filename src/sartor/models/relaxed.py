"""A symbolic network as one that holds all of its choices among modules, weighted: searched by gradient.

The efficient search of PyGlove (arXiv:2101.08809 §3.3), with the relaxation of DARTS (arXiv:1806.09055 §2.2): the
same program, the same space, another way of searching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.records import Arch
from sartor.space.symbolic import OneOf, materialise, space_of


class Mixture(nn.Module):
    """The sum of what the candidates give, weighted by the softmax of ``alpha``. Shapes must agree."""

    def __init__(self, name: str, choice: OneOf, candidates: Sequence[nn.Module]):
        super().__init__()
        self.name = name
        self.options = choice.options
        self.candidates = nn.ModuleList(candidates)
        self.alpha = nn.Parameter(torch.zeros(len(candidates)))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.alpha.softmax(0)
        return torch.stack([w * candidate(x) for w, candidate in zip(weights, self.candidates, strict=True)]).sum(0)


def relaxed(value: Any) -> nn.Module:
    """The network of ``value`` with a :class:`Mixture` for every choice. Its ``alpha`` parameters are the arch.

    Raises InputError for a choice that is not one among modules: of widths, there is nothing to weight.
    """

    def mixture(name: str, choice: OneOf, candidates: Sequence[Any]) -> Mixture:
        made = [candidate() for candidate in candidates]
        if not all(isinstance(m, nn.Module) for m in made):
            raise InputError(f"choice {name!r} is not among modules: search it by evaluations instead")
        return Mixture(name, choice, made)

    return materialise(value, {}, decide=mixture)


def strongest(value: Any, network: nn.Module) -> Arch:
    """The arch of ``value``'s space with the option of most weight in every choice of its :func:`relaxed` network."""
    found = {m.name: m.options[int(m.alpha.argmax())] for m in network.modules() if isinstance(m, Mixture)}
    return space_of(value).canonical(found)
