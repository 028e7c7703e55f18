"""One layer as several (P178, path-level network transformation, arXiv:1806.02639 §3.2)."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph.replace import at, replace
from sartor.graph.sliced import set_sizes, sliced_tensors, smaller


class Sum(nn.Module):
    """The mean of what its branches make of the same input, or of parts of it."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x)
        for branch in list(self.branches)[1:]:
            total = total + branch(x)
        return total / len(self.branches)


class Beside(nn.Module):
    """What its branches make of the same input, one after the other along ``dim``."""

    def __init__(self, branches: list[nn.Module], dim: int):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], self.dim)


def branch(
    model: nn.Module,
    path: str,
    *,
    merge: Literal["add", "concat"] = "add",
    branches: int = 2,
    noise: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    """A copy of ``model`` with the layer at ``path`` replaced by several that do together what it did.

    ``add``: copies of it, whose mean is taken; any layer. Copies would stay equal in training: ``noise`` (of a weight's
    standard deviation, drawn with ``seed``) makes them differ, and as it adds up to nothing over the branches, the mean
    of convolutions and of linear layers stays what it was. ``concat``: each makes a part of the outputs; a convolution
    without groups or a linear layer. Raises InputError where that cannot be.
    """
    grown = copy.deepcopy(model)
    layer: Any = at(grown, path)
    if branches < 2:
        raise InputError(f"a layer is replaced by at least 2 branches, not {branches}")
    if merge == "add":
        copies = [layer, *(copy.deepcopy(layer) for _ in range(branches - 1))]
        if noise:
            _part(copies, noise, seed)
        replace(grown, path, Sum(copies))
        return grown
    is_conv = isinstance(layer, nn.modules.conv._ConvNd) and not layer.transposed and layer.groups == 1
    if merge != "concat" or not (is_conv or isinstance(layer, nn.Linear)):
        raise InputError(f"{path} is a {type(layer).__name__}, which cannot be divided with {merge!r}")
    parts = torch.arange(len(layer.weight)).tensor_split(branches)
    if not all(len(part) for part in parts):
        raise InputError(f"{path} has {len(layer.weight)} outputs, too few for {branches} branches")
    made = []
    for part in parts:
        kept = {"weight": (part, *[None] * (layer.weight.dim() - 1)), "bias": (part,)}
        piece = smaller(layer, sliced_tensors(dict(layer.named_parameters()), kept))
        set_sizes(piece, [], lambda _: True)
        made.append(piece)
    replace(grown, path, Beside(made, -1 if isinstance(layer, nn.Linear) else 1))
    return grown


@torch.no_grad()
def _part(copies: list[nn.Module], noise: float, seed: int) -> None:
    """Noise on the weights of equal modules, of mean zero over them."""
    generator = torch.Generator().manual_seed(seed)
    for same in zip(*(module.parameters() for module in copies), strict=True):
        if same[0].dim() > 1:
            drawn = noise * same[0].std() * torch.randn((len(same), *same[0].shape), generator=generator).to(same[0])
            for parameter, own in zip(same, drawn - drawn.mean(0), strict=True):
                parameter.add_(own)
