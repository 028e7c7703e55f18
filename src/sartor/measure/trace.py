"""One run of a module seen at the dispatcher: which operator costs what, in which submodule.

The run is on the meta device: shapes without values, a fraction of a real forward pass. The module is not moved or
copied: inputs are on meta, and where an operator meets both kinds, its real tensors are replaced by meta twins there.
Rejected: FakeTensor, which asks each operator several times and takes longer than a small network's real pass; and
swapping the parameters, which misses those that a recurrence or a user's attribute holds beside them. What only values
decide (``item()``, ``nonzero``) cannot run so, and then the real thing runs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from sartor.graph.capture import evaluating
from sartor.measure.operators import operator


@dataclass
class Work:
    """What one submodule's own operators did, in the terms of :mod:`sartor.measure.counts`."""

    macs: int = 0
    elementwise: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    weight_read_bytes: int = 0


@dataclass
class Tally:
    """By submodule's name, in the order they first computed. ``unknown``: operators without a rule, how often."""

    work: dict[str, Work] = field(default_factory=lambda: defaultdict(Work))
    outputs: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    order: dict[str, None] = field(default_factory=dict)
    unknown: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, values: bool = False) -> Tally:
    """Run ``model`` in eval mode and tally. ``values``: compute them, although shapes would do.

    Raises whatever its real forward pass raises.
    """
    with evaluating(model), torch.no_grad(), _plain_attention():
        if not values:
            # Any exception: what a value decides fails in as many ways as there are authors.
            with contextlib.suppress(Exception), _as_it_was(model):
                shapes = pytree.tree_map_only(Tensor, lambda value: value.to("meta"), (args, kwargs))
                return _run(model, *shapes)
        with _plain_recurrences():
            return _run(model, args, kwargs)


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tally:
    tally = Tally()
    counting = _Counting(model, tally)
    with counting.attributing(model), counting:
        model(*args, **kwargs)
    return tally


class _Counting(TorchDispatchMode):
    def __init__(self, model: nn.Module, tally: Tally) -> None:
        super().__init__()
        self.tally = tally
        self._stack: list[str] = [""]
        self._weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = operator(func)
        given = [*_tensors(args), *_tensors(kwargs)] if kwargs else list(_tensors(args))
        called, named, out = args, kwargs, None
        if any(value.is_meta for value in given):
            if not all(value.is_meta for value in given):
                called, named = self._twins_in(args), self._twins_in(kwargs)
            if named.get("device") is not None:
                named = {**named, "device": torch.device("meta")}
            if known.shortcut is not None:
                out = known.shortcut(called, named)
        if out is None:
            out = func(*called, **named)
        if known.view:
            return out
        name = self._stack[-1]
        first = out if isinstance(out, Tensor) else next(_tensors(out), None)
        work = self.tally.work[name]
        if known.macs is not None:
            work.macs += known.macs(called, first)
            self.tally.order.setdefault(name)
        elif known.elementwise is not None and first is not None:
            work.elementwise += known.elementwise(called, first)
        elif known.unknown:
            self.tally.unknown[name, known.name] += 1
            self.tally.order.setdefault(name)
        for value in given:
            size = value.numel() * value.element_size()
            if _storage(value) in self._weights:
                work.weight_read_bytes += size
            else:
                work.read_bytes += size
        work.written_bytes += sum(value.numel() * value.element_size() for value in _tensors(out))
        return out

    def _twins_in(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if value.is_meta else self._twin(value)
        if isinstance(value, (tuple, list)):
            return type(value)([self._twins_in(item) for item in value])
        if isinstance(value, dict):
            return {key: self._twins_in(item) for key, item in value.items()}
        return value

    def _twin(self, tensor: Tensor) -> Tensor:
        held = self._twins.get(id(tensor))
        if held is None:
            # The tensor is kept beside its twin: its id must not be another's while the trace lasts.
            twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
            held = self._twins[id(tensor)] = (tensor, twin)
        return held[1]

    @contextlib.contextmanager
    def attributing(self, model: nn.Module) -> Iterator[None]:
        """Operators belong to the innermost submodule being called. Two hooks for all: one pair for each of a thousand
        submodules took longer than a small network's trace."""
        names = {id(module): name for name, module in model.named_modules()}

        def enter(module: nn.Module, args: Any) -> None:
            name = names.get(id(module), self._stack[-1])  # a module made in the forward pass is its caller's
            self._stack.append(name)
            self.tally.order.setdefault(name)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            name = self._stack.pop()
            first = output if isinstance(output, Tensor) else next(_tensors(output), None)
            if first is not None and id(module) in names:
                self.tally.outputs[name] = tuple(first.shape), first.numel() * first.element_size()

        hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _storage(tensor: Tensor) -> int:
    """What views of a tensor share with it, on any device; a sparse tensor has none, and stands for itself."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return id(tensor)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Make fused kernels that hide their matrix products decompose: attention, transformer layers."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _plain_recurrences() -> Iterator[None]:
    """The same for oneDNN's recurrences, which real tensors would take."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setting oneDNN's flags warns about Intel GPUs that are not there
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@contextlib.contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what the forward pass stored in the module: tables cached for the next call would be without values."""
    before: list[tuple[dict[str, Any], dict[str, Any], list[tuple[Any, Any]]]] = []
    for module in model.modules():
        held = vars(module)
        inside = [(value, value.copy()) for value in held.values() if isinstance(value, (dict, list)) and value]
        before.append((held, dict(held), inside))
    try:
        yield
    finally:
        for held, saved, inside in before:
            held.clear()
            held.update(saved)
            for value, copy in inside:
                value.clear()
                value.extend(copy) if isinstance(value, list) else value.update(copy)
