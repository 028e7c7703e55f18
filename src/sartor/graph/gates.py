"""Gates: what the loss would do if an entry of a group, or a whole block, counted a little less.

A gate multiplies what the layers that read an entry see of it, or what a block adds to what it takes. Its gradient is
the first-order change of the loss when that goes, sample by sample, and whatever comes before: normalisations need no
care, as they do where weights and gradients are multiplied layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sartor.graph.capture import arguments, evaluating
from sartor.graph.cut import Cut
from sartor.graph.graph import Graph
from sartor.graph.groups import Group

Owners = list[tuple[str, Tensor]]
"""Layers that read a group: name, and the entry of the group that each of its input channels is, or -1."""


def readers(graph: Graph) -> list[tuple[Group, Owners]]:
    """For each group, the linear layers and convolutions that read it."""
    layers = {
        f"{name}.weight": name
        for name, module in graph.model.named_modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and not getattr(module, "transposed", False)
    }
    found = []
    for group in graph.groups:
        owners: Owners = []
        for tie, owner in graph.entries(group):
            layer: Any = graph.model.get_submodule(layers[tie.tensor]) if tie.tensor in layers else None
            if tie.dim == 1 and len(owner) == getattr(layer, "in_features", getattr(layer, "in_channels", -1)):
                owners.append((layers[tie.tensor], torch.from_numpy(owner)))
        found.append((group, owners))
    return found


def gate_gradients(
    graph: Graph, batches: Sequence[tuple[Any, Any]], loss: Callable[[Any, Any], Tensor]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """For each batch, the gradients of its samples' losses by gates: of groups [n, size], of blocks [n].

    ``loss`` is the mean over a batch's samples. Groups that no layer reads (attention written out in functions) have
    one row a batch instead, from the weights that make them: gradient times weight, summed.
    """
    model, held = graph.model, readers(graph)
    named = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    unread = [group for group, owners in held if not owners]
    makers = sorted({t.tensor for g in unread for t in g.ties if t.dim == 0 and t.tensor in named})
    frozen = [named[name] for name in makers if not named[name].requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        for inputs, targets in batches:
            with evaluating(model), _Gates(graph, held) as gates, torch.enable_grad():
                args, kwargs = arguments(inputs)
                value = loss(model(*args, **kwargs), targets)
                n = len(next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)))
                wanted = [*gates.all, *(named[name] for name in makers)]
                found = torch.autograd.grad(n * value, wanted, allow_unused=True)
            by_gate = {id(gate): g for gate, g in zip(wanted, found, strict=True) if g is not None}
            groups = {group.name: gates.of_group(group, owners, by_gate, n) for group, owners in held if owners}
            weighed = {name: named[name].detach() * by_gate[id(named[name])] for name in makers
                       if id(named[name]) in by_gate}  # fmt: skip
            groups |= {group.name: _made(graph, group, weighed)[None] for group in unread}
            yield groups, {path: _rows(by_gate.get(id(gate)), gate, n)[:, 0] for path, gate in gates.blocks.items()}
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


class _Gates:
    """Gates of one, one a row and channel, on what readers take, and one a row on what blocks add."""

    def __init__(self, graph: Graph, held: list[tuple[Group, Owners]]):
        self._graph = graph
        self._names = sorted({name for _, owners in held for name, _ in owners})
        self._handles: list[RemovableHandle] = []
        self.layers: dict[str, list[Tensor]] = {}
        self.blocks: dict[str, Tensor] = {}

    @property
    def all(self) -> list[Tensor]:
        return [*(gate for gates in self.layers.values() for gate in gates), *self.blocks.values()]

    def __enter__(self) -> _Gates:
        for name in self._names:
            layer = self._graph.model.get_submodule(name)
            self._handles.append(layer.register_forward_pre_hook(self._on_layer(name)))
        for block in self._graph.blocks:
            module = self._graph.model.get_submodule(block.path)
            self._handles.append(module.register_forward_hook(self._on_block(block.path)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _on_layer(self, name: str) -> Callable[[nn.Module, Any], Any]:
        def hook(layer: nn.Module, args: Any) -> Any:
            x, dim = args[0], channels_dim(layer, args[0])
            gate = torch.ones(x.shape[0], x.shape[dim], dtype=x.dtype, device=x.device, requires_grad=True)
            self.layers.setdefault(name, []).append(gate)
            return (x * _along(gate, x, dim), *args[1:])

        return hook

    def _on_block(self, path: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, args: Any, result: Any) -> Any:
            x = args[0] if args else None
            if not isinstance(x, Tensor) or not isinstance(result, Tensor) or x.shape != result.shape:
                return result  # called by name
            gate = torch.ones(len(x), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device, requires_grad=True)
            self.blocks[path] = gate
            return x + gate * (result - x)

        return hook

    def of_group(self, group: Group, owners: Owners, found: dict[int, Tensor], n: int) -> Tensor:
        total = torch.zeros(n, group.size, dtype=torch.float64)
        for name, owner in owners:
            for gate in self.layers.get(name, ()):
                if id(gate) in found:
                    total.index_add_(1, owner[owner >= 0], _rows(found[id(gate)], gate, n)[:, owner >= 0])
        return total


def channels_dim(layer: nn.Module, x: Tensor) -> int:
    """The dimension of ``x`` that ``layer`` reads as channels."""
    if isinstance(layer, nn.Linear):
        return x.dim() - 1
    return x.dim() - 1 - len(layer.kernel_size)  # type: ignore[arg-type]


def _along(values: Tensor, x: Tensor, dim: int) -> Tensor:
    """``values`` [rows, channels] or [channels] where they are in ``x``."""
    size = [1] * x.dim()
    size[dim] = x.shape[dim]
    if values.dim() == 2 and dim:
        size[0] = x.shape[0]
        return values.view(size)
    return (values if values.dim() == 1 else values.mean(0)).view(size)


def _rows(gradient: Tensor | None, gate: Tensor, n: int) -> Tensor:
    """[n, channels]: rows of a batch's samples added up, where several are of one (windows, tokens)."""
    gradient = torch.zeros_like(gate) if gradient is None else gradient
    rows = gradient.detach().double().cpu().flatten(1)
    if len(rows) % n == 0:
        return rows.view(n, -1, rows.shape[1]).sum(1)
    return torch.cat([rows.sum(0, keepdim=True), rows.new_zeros(n - 1, rows.shape[1])])


def _made(graph: Graph, group: Group, values: dict[str, Tensor]) -> Tensor:
    """[size]: ``values`` of the tensors that make a group's entries, added up."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for tie, owner in graph.entries(group):
        if tie.dim == 0 and tie.tensor in values:
            value = values[tie.tensor].double().cpu()
            index = torch.from_numpy(owner)
            total.index_add_(0, index[index >= 0], (value.flatten(1).sum(1) if value.dim() > 1 else value)[index >= 0])
    return total


@contextmanager
def gated(graph: Graph, cut: Cut) -> Iterator[None]:
    """The graph's model as good as cut: layers see nothing of entries that go, and blocks that go pass on what they
    take. Batch norms' statistics may be changed inside, and come back after it."""
    model = graph.model
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    closed: dict[str, Tensor] = {}
    for group, owners in readers(graph):
        gone = torch.ones(group.size, dtype=torch.bool)
        gone[list(cut.keep.get(group.name, range(group.size)))] = False
        for name, owner in owners if bool(gone.any()) else ():
            mine = (owner >= 0) & gone[owner.clamp(min=0)]
            closed[name] = closed.get(name, torch.zeros(len(owner), dtype=torch.bool)) | mine

    def shut(gone: Tensor) -> Callable[[nn.Module, Any], Any]:
        def hook(layer: nn.Module, args: Any) -> Any:
            x = args[0]
            return (x * _along((~gone).to(x), x, channels_dim(layer, x)), *args[1:])

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(shut(gone)) for name, gone in closed.items()]
    handles += [model.get_submodule(path).register_forward_hook(lambda _m, args, _r: args[0]) for path in cut.without]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, buffer in model.named_buffers():
            buffer.data.copy_(before[name])
