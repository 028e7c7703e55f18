"""Gates: what the loss would do if an entry of a group, or a whole block, counted a little less.

A gate multiplies what the layers that read an entry see of it, or what a block adds to what it takes. Its gradient is
the first-order change of the loss when that goes, sample by sample, and whatever comes before: normalisations need no
care, as they do where weights and gradients are multiplied layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sartor.graph.capture import arguments, evaluating
from sartor.graph.cut import Cut
from sartor.graph.graph import Graph
from sartor.graph.groups import Group
from sartor.graph.reads import read_dims
from sartor.graph.sliced import outputs_of

Owners = list[tuple[str, Tensor]]
"""Layers that read a group: name, and the entry of the group that each of its input channels is, or -1."""


def readers(graph: Graph) -> list[tuple[Group, Owners]]:
    """For each group, the layers that read it; none where anything else reads it, too (torch's attention takes the
    weights of its last layer itself)."""
    called = {call.where for call in graph.calls}
    read = read_dims(graph)
    layers: dict[str, tuple[str, int]] = {}
    for name, module in graph.model.named_modules():
        if name in called and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            layers[f"{name}.weight"] = name, module.in_features if isinstance(module, nn.Linear) else module.in_channels
    found = []
    for group in graph.groups:
        owners: Owners | None = []
        for tie, owner in graph.entries(group):
            if (tie.tensor, tie.dim) in read and owners is not None:
                name, size = layers.get(tie.tensor, ("", -1))
                owners = [*owners, (name, torch.from_numpy(owner))] if len(owner) == size else None
        found.append((group, owners or []))
    return found


def skippable(graph: Graph) -> list[str]:
    """Paths of the blocks that an identity can stand in for: called once, with one tensor, returning one."""
    paths = [block.path for block in graph.blocks]
    seen: dict[str, list[bool]] = {path: [] for path in paths}

    def watch(path: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, said: Any) -> None:
            seen[path].append(
                len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and isinstance(said, Tensor)
            )

        return hook

    handles = [graph.model.get_submodule(p).register_forward_hook(watch(p), with_kwargs=True) for p in paths]
    try:
        args, kwargs = graph.inputs
        outputs_of(graph.model, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return [path for path in paths if seen[path] == [True]]


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
    read = read_dims(graph) if unread else set()
    made_by = {group.name: _makers(graph, group, named, read) for group in unread}
    makers = sorted({name for names in made_by.values() for name in names})
    blocks = skippable(graph)
    frozen = [named[name] for name in makers if not named[name].requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        for inputs, targets in batches:
            with evaluating(model), _Gates(graph, held, blocks) as gates, torch.enable_grad():
                args, kwargs = arguments(inputs)
                value = loss(model(*args, **kwargs), targets)
                n = len(next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)))
                wanted = [*gates.all, *(named[name] for name in makers)]
                found = torch.autograd.grad(n * value, wanted, allow_unused=True) if wanted else ()
            by_gate = {id(gate): g for gate, g in zip(wanted, found, strict=True) if g is not None}
            groups = {group.name: gates.of_group(group, owners, by_gate, n) for group, owners in held if owners}
            weighed = {m: named[m].detach() * by_gate[id(named[m])] for m in makers if id(named[m]) in by_gate}
            for group in unread:
                own = {name: weighed[name] for name in made_by[group.name] if name in weighed}
                groups[group.name] = _made(graph, group, own)[None]
            yield groups, {path: _rows(by_gate.get(id(gate)), gate, n)[:, 0] for path, gate in gates.blocks.items()}
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


class _Gates:
    """Gates of one, one a row and channel, on what readers take, and one a row on what blocks add."""

    def __init__(self, graph: Graph, held: list[tuple[Group, Owners]], blocks: list[str]):
        self._graph = graph
        self._paths = blocks
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
            self._handles.append(layer.register_forward_pre_hook(self._on_layer(name), with_kwargs=True))
        for path in self._paths:
            module = self._graph.model.get_submodule(path)
            self._handles.append(module.register_forward_hook(self._on_block(path)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _on_layer(self, name: str) -> Callable[..., Any]:
        def hook(layer: nn.Module, args: Any, kwargs: Any) -> Any:
            def gate(x: Tensor) -> Tensor:
                dim = channels_dim(layer, x)
                ones = torch.ones(x.shape[0], x.shape[dim], dtype=x.dtype, device=x.device, requires_grad=True)
                self.layers.setdefault(name, []).append(ones)
                return x * _along(ones, x, dim)

            return _with_input(args, kwargs, gate)

        return hook

    def _on_block(self, path: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, args: Any, result: Tensor) -> Tensor:
            x = args[0]
            gate = torch.ones(len(x), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device, requires_grad=True)
            self.blocks[path] = gate
            return cast(Tensor, x + gate * (result - x))

        return hook

    def of_group(self, group: Group, owners: Owners, found: dict[int, Tensor], n: int) -> Tensor:
        total = torch.zeros(n, group.size, dtype=torch.float64)
        for name, owner in owners:
            for gate in self.layers.get(name, ()):
                if id(gate) in found:
                    total.index_add_(1, owner[owner >= 0], _rows(found[id(gate)], gate, n)[:, owner >= 0])
        return total


def _with_input(args: Any, kwargs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A layer's arguments with its input changed."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "input": change(kwargs["input"])}


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


def _makers(graph: Graph, group: Group, named: Mapping[str, Tensor], read: set[tuple[str, int]]) -> list[str]:
    """The parameters that make a group's entries; of those that are normalised the norm's, which come last."""
    ties = [t.tensor for t in group.ties if t.dim == 0 and t.tensor in named and (t.tensor, 0) not in read]
    norms = [name for name in ties if isinstance(graph.model.get_submodule(name.rpartition(".")[0]), NORMS)]
    return norms or ties


NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


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
    """The graph's model as good as cut: layers see nothing of entries that go, and blocks that go (those that are
    ``skippable``) pass on what they take. Groups that anything but layers reads stay as they are. Buffers (batch
    norms' statistics) may be changed inside, and come back after it."""
    model = graph.model
    if not cut.keep and not cut.without:
        yield
        return
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    closed: dict[str, Tensor] = {}
    for group, owners in readers(graph):
        gone = torch.ones(group.size, dtype=torch.bool)
        gone[list(cut.keep.get(group.name, range(group.size)))] = False
        for name, owner in owners if bool(gone.any()) else ():
            mine = (owner >= 0) & gone[owner.clamp(min=0)]
            closed[name] = closed.get(name, torch.zeros(len(owner), dtype=torch.bool)) | mine

    def shut(gone: Tensor) -> Callable[..., Any]:
        def hook(layer: nn.Module, args: Any, kwargs: Any) -> Any:
            return _with_input(args, kwargs, lambda x: x * _along((~gone).to(x), x, channels_dim(layer, x)))

        return hook

    handles = [
        model.get_submodule(name).register_forward_pre_hook(shut(gone), with_kwargs=True)
        for name, gone in closed.items()
    ]
    handles += [model.get_submodule(path).register_forward_hook(lambda _m, args, _r: args[0]) for path in cut.without]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, buffer in model.named_buffers():
            if not torch.equal(buffer, before[name]):
                buffer.data.copy_(before[name])
