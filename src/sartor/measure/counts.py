"""Exact multiply-accumulates and parameters of a module, layer by layer, from the operators it really runs.

Counted at the dispatcher, so a matmul in a function, an einsum or an attention counts like a layer does. One MAC is
one multiplication with its addition; bias additions, normalisations and activations have none.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from sartor.errors import InputError
from sartor.graph.capture import evaluating

aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """One module (or one node of a file) that computes or holds parameters of its own.

    ``macs`` and ``params`` are its own, without its children's; ``output_shape`` is that of its last call, batch 1.
    """

    name: str
    kind: str
    macs: int
    params: int
    output_shape: tuple[int, ...]
    activation_bytes: int


@dataclass(frozen=True)
class Counts:
    """Totals and layers. The layers' MACs and parameters add up to the totals."""

    params: int
    macs: int
    layers: tuple[Layer, ...]


def counts(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Run ``model`` once on zeros of ``shape`` (C, H, W), batch 1, eval mode, and count.

    A shared parameter counts once, in the first module that holds it. Raises InputError when the model does not run.
    """
    like = next(model.parameters(), torch.zeros(()))
    images = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    return counts_of(model, (images,), f"images of {tuple(shape)}")


def counts_of(model: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = "") -> Counts:
    """Run ``model`` once on ``inputs``, whatever they are, in eval mode, and count: images, tokens, several of them.

    MACs are of the whole batch. ``name`` is what the inputs are called in an error. Otherwise as :func:`counts`.
    """
    tally = _Tally()
    with evaluating(model), torch.no_grad(), _plain_operators(), tally.attributing(model):
        try:
            with tally:
                model(*inputs)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            name = name or "inputs of " + ", ".join(str(tuple(x.shape)) for x in inputs)
            raise InputError(f"{type(model).__name__} does not run on {name}: {reason}") from error
    layers = tuple(_layers(model, tally))
    return Counts(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
    )


def _layers(model: nn.Module, tally: _Tally) -> Iterator[Layer]:
    """In the order the modules first computed; those that never ran come last."""
    modules = dict(model.named_modules())
    order = {name: i for i, name in enumerate(tally.order)}
    seen: set[int] = set()
    own: dict[str, int] = {}
    for name, module in modules.items():
        fresh = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, fresh))
        own[name] = sum(p.numel() for p in fresh)
    for name in sorted(modules, key=lambda n: order.get(n, len(order))):
        macs = tally.macs.get(name, 0)
        if macs or own[name]:
            shape, size = tally.outputs.get(name, ((), 0))
            yield Layer(name, type(modules[name]).__name__, macs, own[name], shape, size)


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Make fused kernels that hide their matmuls decompose: attention, transformer layers, oneDNN recurrences."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # setting oneDNN's flags warns about Intel GPUs that are not there
            with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Tally(TorchDispatchMode):
    """Adds each operator's MACs to the innermost module being called."""

    def __init__(self) -> None:
        super().__init__()
        self.macs: dict[str, int] = defaultdict(int)
        self.outputs: dict[str, tuple[tuple[int, ...], int]] = {}
        self.order: dict[str, None] = {}
        self._stack: list[str] = [""]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        rule = _RULES.get(func.overloadpacket)
        if rule is not None:
            self.macs[self._stack[-1]] += rule(args, out)
            self.order.setdefault(self._stack[-1])
        return out

    @contextlib.contextmanager
    def attributing(self, model: nn.Module) -> Iterator[None]:
        hooks = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(self._enter(name)))
            hooks.append(module.register_forward_hook(self._leave(name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self._stack.append(name)
            self.order.setdefault(name)

        return enter

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self._stack.pop()
            if isinstance(output, (tuple, list)) and output:
                output = output[0]
            if isinstance(output, torch.Tensor):
                self.outputs[name] = (tuple(output.shape), output.numel() * output.element_size())

        return leave


def _convolution(args: Any, out: torch.Tensor) -> int:
    images, weight, transposed = args[0], args[1], args[6]
    # weight[0] is all that makes one output value; transposed, all that one input value is spread by.
    return (images if transposed else out).numel() * weight[0].numel()


def _matmul(left: int) -> Callable[[Any, torch.Tensor], int]:
    """Numbers in the output times the contracted length, which is the last one of argument ``left``."""
    return lambda args, out: out.numel() * args[left].shape[-1]


_RULES: dict[Any, Callable[[Any, Any], int]] = {
    aten.convolution: _convolution,
    aten._convolution: _convolution,
    aten.mm: _matmul(0),
    aten.bmm: _matmul(0),
    aten.mv: _matmul(0),
    aten.dot: lambda args, out: args[0].numel(),
    aten.addmm: _matmul(1),
    aten.addmv: _matmul(1),
    aten.baddbmm: _matmul(1),
    aten.addbmm: lambda args, out: math.prod(args[1].shape) * args[2].shape[-1],
}
