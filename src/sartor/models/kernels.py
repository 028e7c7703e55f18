"""Smaller kernels out of larger ones: the middle of each (kernel sharing of once-for-all, arXiv:1908.09791 §3.2).

Rejected: its learned matrices from one size to the next, which a network that was trained without them does not have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from sartor.graph import Graph
from sartor.graph.capture import evaluating
from sartor.graph.sliced import agree, lively, outputs_of

LEAST = 3
"""A kernel of one has no middle that looks around."""


def cropped(weight: Tensor, side: int) -> Tensor:
    """The middle ``side`` x ``side`` of kernels [out, in, k, k]; a view."""
    margin = (weight.shape[-1] - side) // 2
    return weight[..., margin : margin + side, margin : margin + side]


def set_kernel(layer: Any, side: int) -> None:
    """Make the convolution ``layer`` one of kernels ``side`` x ``side`` that stand where the larger ones stood; its
    weight is not touched."""
    margin = (layer.kernel_size[0] - side) // 2
    layer.kernel_size = (side, side)
    if not isinstance(layer.padding, str) and any(layer.padding):
        layer.padding = tuple(p - margin * d for p, d in zip(layer.padding, layer.dilation, strict=True))


def crop_kernels(network: nn.Module, kernels: Mapping[str, int]) -> None:
    """Crop the convolutions at these paths, in place, weights too."""
    for path, side in kernels.items():
        layer: Any = network.get_submodule(path)
        set_kernel(layer, side)
        layer.weight = nn.Parameter(cropped(layer.weight.detach(), side).clone(), layer.weight.requires_grad)


@torch.no_grad()
def croppable(graph: Graph, without: Iterable[str] = ()) -> dict[str, tuple[int, ...]]:
    """By path: the sides that kernels of ``graph``'s model may have, its own the last. Only convolutions of which a
    cropped one computes what the whole one does with zeros around its middle, tried on the example."""
    model = graph.model
    found = {}
    for path, layer in model.named_modules():
        sides = tuple(range(LEAST, int(layer.kernel_size[0]) + 1, 2)) if _is_square(layer) else ()
        if len(sides) > 1 and path not in without and _stands_alone(graph, path):
            found[path] = sides
    if not found:
        return {}
    if _crops_are_middles(graph, found):
        return found
    return {path: sides for path, sides in found.items() if _crops_are_middles(graph, {path: sides})}


def _crops_are_middles(graph: Graph, found: Mapping[str, tuple[int, ...]]) -> bool:
    model = graph.model
    args, kwargs = graph.inputs
    small, zeroed = copy.deepcopy(model), copy.deepcopy(model)
    for twin in (small, zeroed):
        twin.load_state_dict(lively(model), strict=False)
    crop_kernels(small, {path: sides[0] for path, sides in found.items()})
    for path, sides in found.items():
        layer: Any = zeroed.get_submodule(path)
        inside = torch.zeros_like(layer.weight)
        cropped(inside, sides[0]).fill_(1.0)
        layer.weight.mul_(inside)
    with evaluating(small), evaluating(zeroed):
        return agree(outputs_of(small, args, kwargs), outputs_of(zeroed, args, kwargs))


def _is_square(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size[0] == layer.kernel_size[1]
        and layer.kernel_size[0] % 2 == 1
        and layer.padding_mode == "zeros"
        and (layer.padding == "same" or (not isinstance(layer.padding, str) and _room(layer)))
    )


def _room(layer: nn.Conv2d) -> bool:
    """Whether the padding allows the smallest crop; a class of its own may pad by itself, and have none."""
    paddings: Any = layer.padding
    margin = (layer.kernel_size[0] - LEAST) // 2
    own = type(layer) is not nn.Conv2d and not any(paddings)
    return own or all(p >= margin * d for p, d in zip(paddings, layer.dilation, strict=True))


def _stands_alone(graph: Graph, path: str) -> bool:
    """Whether the weight is this layer's only."""
    weight = graph.model.get_submodule(path).weight
    return sum(t is weight for _, t in graph.model.named_parameters(remove_duplicate=False)) == 1
