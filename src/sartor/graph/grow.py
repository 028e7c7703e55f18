"""The inverse of a cut: larger networks that compute what they did before.

``widen`` repeats entries of groups and shares what reads them among the copies (Net2WiderNet, arXiv:1511.05641 §2.2;
EAS, P040, arXiv:1707.04873 §3.2). ``deepen`` puts a layer that does nothing behind a layer (Net2DeeperNet, §2.3).
``branch`` replaces a layer by two that add up to it, or stand beside each other (P178, arXiv:1806.02639 §3.2).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph.atoms import Label
from sartor.graph.call import Call, Value
from sartor.graph.graph import Graph
from sartor.graph.groups import Group
from sartor.graph.sliced import agree, outputs_of, set_sizes, sliced_tensors, smaller

Ints = NDArray[np.int64]


def widen(graph: Graph, sizes: Mapping[str, int], *, seed: int = 0, noise: float = 0.0) -> nn.Module:
    """The graph's model with groups grown to ``sizes`` entries, computing the same.

    New entries are copies of random old ones, drawn with ``seed``; layers that read them divide by the number of
    copies. ``noise`` (of a weight's standard deviation) makes the copies differ, so that training can tell them apart,
    at the price of exactness. Raises InputError for unknown groups, sizes below the group's, and groups whose copies
    change the function: normalisations and softmaxes over the group count every copy.
    """
    rng = random.Random(seed)
    copies: list[tuple[Group, list[int]]] = []
    for name, size in sizes.items():
        group = next((g for g in graph.groups if g.name == name), None)
        if group is None:
            raise InputError(f"there is no group {name!r}: see the names of Graph.groups")
        if size < group.size:
            raise InputError(f"group {name!r} has {group.size} entries already: cut it to have {size}")
        copies.append((group, [rng.randrange(group.size) for _ in range(size - group.size)]))
    layout = _Layout(graph, copies)
    tensors = graph.tensors
    indices = {name: tuple(layout.index(label) for label in value.dims) for name, value in tensors.items()}
    module = smaller(graph.model, sliced_tensors(graph.data, indices))
    _share(graph, module, copies, layout)
    _, changes = graph.constants(layout.count)
    args, kwargs = graph.inputs
    expected = outputs_of(graph.model, args, kwargs)
    if not set_sizes(module, changes, lambda m: agree(outputs_of(m, args, kwargs), expected)):
        raise InputError(
            f"{', '.join(sizes)} cannot be widened without changing what {type(graph.model).__name__} computes: "
            "something normalises over these entries, or the model's code holds their number"
        )
    if noise:
        _perturb(module, indices, noise, seed)
    return module


def deepen(model: nn.Module, path: str) -> nn.Module:
    """A copy of ``model`` with a convolution or linear layer that does nothing behind the one at ``path``.

    Raises InputError where there is no such layer.
    """
    grown = copy.deepcopy(model)
    layer: Any = _at(grown, path)
    new: Any
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            new = nn.Linear(layer.out_features, layer.out_features, bias=layer.bias is not None)
            new.weight.copy_(torch.eye(layer.out_features))
        elif isinstance(layer, nn.modules.conv._ConvNd) and not layer.transposed:
            kernel = tuple(k if k % 2 else 1 for k in layer.kernel_size)
            middle = tuple(k // 2 for k in kernel)
            kind: Any = type(layer)
            new = kind(layer.out_channels, layer.out_channels, kernel, padding=middle, bias=layer.bias is not None)
            channels = torch.arange(layer.out_channels)
            new.weight.zero_()
            index = (channels, channels, *middle)
            new.weight[index] = 1
        else:
            raise InputError(f"{path} is a {type(layer).__name__}: a convolution or linear layer can be deepened")
        if new.bias is not None:
            new.bias.zero_()
    _replace(grown, path, nn.Sequential(layer, new.to(layer.weight).train(layer.training)))
    return grown


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


def branch(model: nn.Module, path: str, *, merge: Literal["add", "concat"] = "add", branches: int = 2) -> nn.Module:
    """A copy of ``model`` with the layer at ``path`` replaced by several that do together what it did.

    ``add``: copies of it, whose mean is taken; any layer. ``concat``: each makes a part of its outputs; a convolution
    without groups or a linear layer. Raises InputError where that cannot be.
    """
    grown = copy.deepcopy(model)
    layer: Any = _at(grown, path)
    if branches < 2:
        raise InputError(f"a layer is replaced by at least 2 branches, not {branches}")
    if merge == "add":
        _replace(grown, path, Sum([layer, *(copy.deepcopy(layer) for _ in range(branches - 1))]))
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
    _replace(grown, path, Beside(made, -1 if isinstance(layer, nn.Linear) else 1))
    return grown


class _Layout:
    """Where every position of a grown dimension comes from."""

    def __init__(self, graph: Graph, copies: list[tuple[Group, list[int]]]):
        self._graph = graph
        self._copies = copies
        self._known: dict[int, tuple[Label, Ints | None]] = {}

    def positions(self, label: Label) -> Ints | None:
        """The old position of each new one; None where nothing was added."""
        held = self._known.get(id(label))
        if held is None or held[0] is not label:
            index = np.arange(len(label))
            for group, extra in self._copies:
                owner = self._graph.owner(group, label)
                if (owner >= 0).any():
                    index = _repeated(index, owner[index], extra)
            held = (label, index if len(index) != len(label) else None)
            self._known[id(label)] = held
        return held[1]

    def index(self, label: Label) -> Tensor | None:
        positions = self.positions(label)
        return None if positions is None else torch.from_numpy(positions)

    def count(self, label: Label) -> int:
        positions = self.positions(label)
        return len(label) if positions is None else len(positions)


def _repeated(index: Ints, owner: Ints, extra: list[int]) -> Ints:
    """Behind every run of a group's entries (once through all of them), the runs' own copies of ``extra``."""
    parts: list[Ints] = []
    start = 0
    for i in range(1, len(index) + 1):
        if i < len(index) and owner[i] >= max(0, owner[i - 1]) and owner[i - 1] >= 0:
            continue
        run, own = index[start:i], owner[start:i]
        parts += [run, *(run[own == entry] for entry in extra if own[0] >= 0)]
        start = i
    return np.concatenate(parts)


def _share(graph: Graph, module: nn.Module, copies: list[tuple[Group, list[int]]], layout: _Layout) -> None:
    """Divide what reads entries by the number of their copies."""
    read = _read_dims(graph)
    done: set[int] = set()
    for name, value in graph.tensors.items():
        tensor = module.get_parameter(name) if name in dict(module.named_parameters()) else None
        if tensor is None or id(tensor) in done:
            continue
        done.add(id(tensor))
        for dim, label in enumerate(value.dims):
            positions = layout.positions(label)
            if positions is None or (name, dim) not in read:
                continue
            share = torch.ones(len(positions), dtype=tensor.dtype)
            for group, extra in copies:
                times = np.ones(group.size + 1)
                times[:-1] += np.bincount(extra, minlength=group.size)
                share /= torch.from_numpy(times[graph.owner(group, label)[positions]]).to(tensor.dtype)
            size = [1] * tensor.dim()
            size[dim] = len(share)
            with torch.no_grad():
                tensor.mul_(share.reshape(size))


def _read_dims(graph: Graph) -> set[tuple[str, int]]:
    """Dimensions of parameters that operators sum over."""
    names: dict[int, list[str]] = {}
    for name, value in graph.tensors.items():
        names.setdefault(id(value), []).append(name)
    found: set[tuple[str, int]] = set()

    def add(value: Value | None, dim: int) -> None:
        for name in names.get(id(value), []):
            found.add((name, dim % value.rank))  # type: ignore[union-attr]

    for call in graph.calls:
        _read_by(call, add)
    return found


def _read_by(call: Call, add) -> None:  # type: ignore[no-untyped-def]
    kind = call.op.split(".")[1]
    if kind == "linear":
        add(call["weight"], -1)
    elif kind.startswith("conv") or kind == "_convolution":
        transposed = "transpose" in kind or bool(call.get("transposed", False))
        add(call["weight"], 0 if transposed else 1)
    elif kind in ("matmul", "mm", "bmm"):
        right = call.get("other", call.get("mat2"))
        add(call["self"], -1)
        add(right, -2 if right.rank > 1 else -1)
    elif kind == "addmm":
        add(call["mat1"], -1)
        add(call["mat2"], -2)
    elif kind == "einsum":
        left, _, right = call["equation"].replace(" ", "").partition("->")
        for term, value in zip(left.split(","), call["tensors"], strict=True):
            for dim, letter in enumerate(term):
                if letter.isalpha() and letter not in right and "." not in term:
                    add(value, dim)
    elif kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        for value in call["params"]:
            if value.rank == 2:
                add(value, 1)


def _perturb(module: nn.Module, indices: Mapping[str, tuple[Tensor | None, ...]], noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1 and any(index is not None for index in indices.get(name, ())):
            with torch.no_grad():
                spread = noise * parameter.std()
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator).to(parameter))


def _at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise InputError(f"{type(model).__name__} has no layer {path!r}") from error


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner) if owner else model, name, new)
