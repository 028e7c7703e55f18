"""Exact multiply-accumulates, parameters, elementwise work and memory traffic of a module, layer by layer.

Counted at the dispatcher from one trace, so a matmul in a function, an einsum or an attention counts like a layer does.

- ``macs``: of every convolution and matrix product, attention's two included; one MAC is one multiplication with its
  addition. Bias additions, normalisations and activations have none.
- ``elementwise``: values that all other arithmetic makes: one for each value that a pointwise operator writes, one for
  each that a normalisation, softmax or reduction reads, and one for each value in a pooling's windows. Copies,
  reshapes and look-ups have none.
- ``read_bytes``, ``written_bytes``: activations that operators read and write when nothing is cached and nothing fused,
  each operand once; views move nothing. ``weight_read_bytes``: parameters and buffers, each time they are read.
- ``weight_bytes``: parameters and buffers as they are stored, by dtype, each storage once.
- ``unknown``: operators that compute and have no rule: what they cost is in none of the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import Inputs, arguments
from sartor.measure.trace import Tally, Work, trace


@dataclass(frozen=True)
class Layer:
    """One module (or one node of a file) that computes or holds parameters of its own.

    Everything is its own, without its children's; ``output_shape`` is that of its last call, and ``activation_bytes``
    its size.
    """

    name: str
    kind: str
    macs: int
    params: int
    output_shape: tuple[int, ...]
    activation_bytes: int
    elementwise: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    weight_read_bytes: int = 0


@dataclass(frozen=True)
class Counts:
    """Totals and layers. The layers' numbers add up to the totals."""

    params: int
    macs: int
    layers: tuple[Layer, ...]
    weight_bytes: dict[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def elementwise(self) -> int:
        return sum(layer.elementwise for layer in self.layers)

    @property
    def read_bytes(self) -> int:
        return sum(layer.read_bytes for layer in self.layers)

    @property
    def written_bytes(self) -> int:
        return sum(layer.written_bytes for layer in self.layers)

    @property
    def weight_read_bytes(self) -> int:
        return sum(layer.weight_read_bytes for layer in self.layers)


def counts(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Run ``model`` once on images of ``shape`` (C, H, W), batch 1, eval mode, and count.

    A shared parameter counts once, in the first module that holds it. Raises InputError when the model does not run.
    """
    like = next(model.parameters(), torch.zeros(()))
    images = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    return counts_of(model, (images,), f"images of {tuple(shape)}")


def counts_of(model: nn.Module, inputs: Inputs, name: str = "") -> Counts:
    """Run ``model`` once on ``inputs``, whatever they are, in eval mode, and count: images, tokens, several of them,
    arguments by name.

    Everything is of the whole batch. ``name`` is what the inputs are called in an error. Otherwise as :func:`counts`.
    """
    args, kwargs = arguments(inputs)
    try:
        tally = trace(model, args, kwargs)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        given = (*args, *kwargs.values())
        name = name or "inputs of " + ", ".join(str(tuple(getattr(x, "shape", ())) or type(x).__name__) for x in given)
        raise InputError(f"{type(model).__name__} does not run on {name}: {reason}") from error
    layers = tuple(_layers(model, tally))
    return Counts(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
        weight_bytes=_weight_bytes(model),
        unknown=tuple(
            f"{operator} in {where or 'the model itself'}" + (f", {times} times" if times > 1 else "")
            for (where, operator), times in tally.unknown.items()
        ),
    )


def _layers(model: nn.Module, tally: Tally) -> Iterator[Layer]:
    """In the order the modules first computed; those that never ran come last."""
    modules = dict(model.named_modules())
    order = {name: i for i, name in enumerate(tally.order)}
    seen: set[int] = set()
    own: dict[str, int] = {}
    for name, module in modules.items():
        fresh = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
        seen.update(map(id, fresh))
        own[name] = sum(p.numel() for p in fresh)
    for name in sorted(modules, key=lambda n: order.get(n, len(order))):
        work = tally.work.get(name)
        if work is not None or own[name]:
            work = work or Work()
            shape, size = tally.outputs.get(name, ((), 0))
            kind = type(modules[name]).__name__
            yield Layer(name, kind, output_shape=shape, activation_bytes=size, params=own[name], **vars(work))


def _weight_bytes(model: nn.Module) -> dict[str, int]:
    found: dict[str, int] = {}
    # Two passes over named tensors leave out repeats: a tied weight is stored once.
    for tensor in (*model.parameters(), *model.buffers()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        found[dtype] = found.get(dtype, 0) + tensor.numel() * tensor.element_size()
    return found
