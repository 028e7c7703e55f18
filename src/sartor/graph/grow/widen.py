"""More entries in groups, shared by what reads them (Net2WiderNet, arXiv:1511.05641 §2.2; EAS, P040,
arXiv:1707.04873 §3.2)."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph.atoms import Label
from sartor.graph.graph import Graph
from sartor.graph.groups import Group
from sartor.graph.reads import read_dims
from sartor.graph.sliced import agree, outputs_of, set_sizes, sliced_tensors, smaller

Ints = NDArray[np.int64]


def widen(graph: Graph, sizes: Mapping[str, int], *, seed: int = 0, noise: float = 0.0) -> nn.Module:
    """The graph's model with groups grown to ``sizes`` entries, computing the same.

    New entries are copies of random old ones, drawn with ``seed``; layers that read them divide by the number of
    copies. ``noise`` (of a weight's standard deviation) makes copies be read differently, so that training can tell
    them apart; it adds up to nothing over the copies of an entry, so the function stays (Net2Net's is on every weight,
    at the price of exactness). Raises InputError for unknown groups, sizes below the group's, and groups whose copies
    change the function: normalisations and softmaxes over the group count every copy.
    """
    copies = _copies(graph, sizes, seed)
    layout = Layout(graph, copies)
    module = smaller(graph.model, sliced_tensors(graph.data, layout.indices))
    _share(graph, module, copies, layout, noise, torch.Generator().manual_seed(seed))
    _, changes = graph.constants(layout.count)
    args, kwargs = graph.inputs
    expected = outputs_of(graph.model, args, kwargs)
    if not set_sizes(module, changes, lambda m: agree(outputs_of(m, args, kwargs), expected)):
        raise InputError(
            f"{', '.join(sizes)} cannot be widened without changing what {type(graph.model).__name__} computes: "
            "something normalises over these entries, or the model's code holds their number"
        )
    return module


def enlarge(graph: Graph, sizes: Mapping[str, int], *, seed: int = 0) -> nn.Module:
    """The graph's model with groups grown to ``sizes`` entries, whatever that does to what it computes: the network
    that would have been made with them, for timing and for training anew. Weights are copies, as :func:`widen`'s, and
    are not shared out, so that any group can be grown: also one that is normalised over.

    Raises InputError for unknown groups, sizes below the group's, and code that holds their number.
    """
    layout = Layout(graph, _copies(graph, sizes, seed))
    module = graph.indexed(layout.indices, layout.count)
    if module is None:
        raise InputError(
            f"{', '.join(sizes)} cannot be larger: the code of {type(graph.model).__name__} holds their number"
        )
    return module


def _copies(graph: Graph, sizes: Mapping[str, int], seed: int) -> list[tuple[Group, list[int]]]:
    """By group, the entries that come again."""
    rng = random.Random(seed)
    copies: list[tuple[Group, list[int]]] = []
    for name, size in sizes.items():
        group = next((g for g in graph.groups if g.name == name), None)
        if group is None:
            raise InputError(f"there is no group {name!r}: see the names of Graph.groups")
        if size < group.size:
            raise InputError(f"group {name!r} has {group.size} entries already: cut it to have {size}")
        copies.append((group, [rng.randrange(group.size) for _ in range(size - group.size)]))
    return copies


class Layout:
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

    @property
    def indices(self) -> dict[str, tuple[Tensor | None, ...]]:
        """Of each dimension of each tensor."""
        tensors = self._graph.tensors
        return {name: tuple(self.index(label) for label in value.dims) for name, value in tensors.items()}

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


def _share(
    graph: Graph,
    module: nn.Module,
    copies: list[tuple[Group, list[int]]],
    layout: Layout,
    noise: float,
    generator: torch.Generator,
) -> None:
    """Divide what reads entries by the number of their copies, and make it differ by ``noise``."""
    read = read_dims(graph)
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
                spread = noise * tensor.std() if noise else None
                tensor.mul_(share.reshape(size).to(tensor.device))
                if spread is not None:
                    drawn = _balanced(torch.randn(tensor.shape, generator=generator), dim, torch.from_numpy(positions))
                    tensor.add_(spread * drawn.to(tensor))


def _balanced(values: Tensor, dim: int, same: Tensor) -> Tensor:
    """``values`` without their mean over the positions of ``dim`` that are ``same``; nothing for those alone."""
    rows = values.movedim(dim, 0)
    sums = torch.zeros((int(same.max()) + 1, *rows.shape[1:]), dtype=rows.dtype).index_add_(0, same, rows)
    means = sums / torch.bincount(same).clamp(min=1).view(-1, *[1] * (rows.dim() - 1))
    return (rows - means[same]).movedim(0, dim)
