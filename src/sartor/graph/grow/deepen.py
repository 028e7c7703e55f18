"""Layers that do nothing yet (Net2DeeperNet, arXiv:1511.05641 §2.3; EAS, P040, arXiv:1707.04873 §3.3)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph.capture import Inputs, arguments
from sartor.graph.graph import Graph
from sartor.graph.replace import at, replace
from sartor.graph.sliced import agree, outputs_of


def deepen(model: nn.Module, path: str, inputs: Inputs | None = None, *, kernel: int = 3) -> nn.Module:
    """A copy of ``model`` with a layer that does nothing behind what is at ``path``.

    Behind a convolution or linear layer: one of its kind. Behind an activation that leaves its own results as they are
    (ReLU and those that clip): a layer and the activation again, which training can make something of; its kind and
    size are seen when the network runs on ``inputs``, and a convolution's is ``kernel``. No normalisation comes with
    it: its statistics would change the function in training (the papers start it at those of a batch).

    Raises InputError where there is no such layer, and for activations without ``inputs`` or that are not their own
    result.
    """
    grown = copy.deepcopy(model)
    layer: Any = at(grown, path)
    if isinstance(layer, nn.Linear):
        new: nn.Module = _identity(type(layer), layer.out_features, (), layer.weight, bias=layer.bias is not None)
    elif isinstance(layer, nn.modules.conv._ConvNd) and not layer.transposed:
        kernels = tuple(k if k % 2 else 1 for k in layer.kernel_size)
        new = _identity(type(layer), layer.out_channels, kernels, layer.weight, bias=layer.bias is not None)
    elif inputs is None or next(layer.parameters(), None) is not None:
        raise InputError(
            f"{path} is a {type(layer).__name__}: a convolution or linear layer can be deepened, or, given example "
            "inputs, an activation"
        )
    else:
        new = nn.Sequential(_behind(grown, path, layer, inputs, kernel), copy.deepcopy(layer))
    replace(grown, path, nn.Sequential(layer, new.train(layer.training)))
    return grown


def repeat(graph: Graph, path: str) -> nn.Module:
    """A copy of the graph's model in which the block at ``path``, one of ``Graph.blocks``, comes twice: its copy adds
    nothing, as the last weights of its branches are zero (arXiv:1812.01187 §3.1 starts training so).

    Raises InputError for other modules, and for blocks that have no such weights.
    """
    block = next((block for block in graph.blocks if block.path == path), None)
    if block is None:
        raise InputError(f"{path} is no block that adds to what it takes: see Graph.blocks")
    grown = copy.deepcopy(graph.model)
    first = at(grown, path)
    second = copy.deepcopy(first)
    inside = dict(second.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name in block.last:
            if name.removeprefix(f"{path}.") in inside:  # else it is tied to another block's
                inside[name.removeprefix(f"{path}.")].zero_()
    replace(grown, path, nn.Sequential(first, second))
    args, kwargs = graph.inputs
    same = agree(outputs_of(grown, args, kwargs), outputs_of(graph.model, args, kwargs))
    if not (block.last and same):
        raise InputError(f"{path} cannot come twice: no weights of its own end what it adds, or its name is needed")
    return grown


def _identity(kind: Any, size: int, kernels: tuple[int, ...], like: Tensor, *, bias: bool = True) -> nn.Module:
    """A linear layer or convolution that returns what it takes."""
    middle = tuple(k // 2 for k in kernels)
    new = kind(size, size, kernels, padding=middle, bias=bias) if kernels else kind(size, size, bias=bias)
    entries = torch.arange(size)
    index = (entries, entries, *middle)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[index] = 1
        if bias:
            new.bias.zero_()
    return new.to(like)


def _behind(model: nn.Module, path: str, act: nn.Module, inputs: Inputs, kernel: int) -> nn.Module:
    """The layer that does nothing for what the activation ``act`` returns."""
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"a kernel that can do nothing has an odd size, not {kernel}")
    seen: list[Tensor] = []
    hook = act.register_forward_hook(lambda _module, _args, result: seen.append(result))
    args, kwargs = arguments(inputs)
    try:
        outputs_of(model, args, kwargs)
    finally:
        hook.remove()
    if len(seen) != 1:
        raise InputError(f"{path} runs {len(seen)} times on these inputs: deepen what runs once")
    with torch.no_grad():
        if not isinstance(seen[0], Tensor) or not torch.equal(act(seen[0].clone()), seen[0]):
            raise InputError(f"{path} is a {type(act).__name__}: only what returns its own results can be repeated")
    rank = seen[0].dim()
    flat = rank < 3 or (rank == 3 and not any(isinstance(m, nn.Conv1d) for m in model.modules()))
    if flat:
        return _identity(nn.Linear, seen[0].shape[-1], (), seen[0])
    return _identity((nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 3], seen[0].shape[1], (kernel,) * (rank - 2), seen[0])
