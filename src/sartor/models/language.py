"""A language of spaces of networks in a few words: ``concat``, ``either``, ``repeat``, ``optional``, ``residual``.

DeepArchitect (Negrinho & Gordon, arXiv:1704.08792 §3): a module is made for the shape that comes in, its
hyperparameters may be choices, and words put modules together, so that a space is one expression. A program is a
:mod:`sartor.space.symbolic` value: its space is ``space_of(program)``, whose choices come in the order in which the
program is read, which is the order in which the paper's tree is gone down.

Deviation: ``or`` is a word of Python, so it is called ``either``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.records import Option
from sartor.space.symbolic import Call, OneOf, materialise, oneof, repeated, symbolic

Shape = tuple[int, ...]
"""Of a tensor, without the batch."""

Maker = Callable[[Shape], nn.Module]
"""Makes a module for inputs of a shape."""


class Residual(nn.Module):
    """``x + inner(x)``; where shapes differ, what is common of ``x`` is added: nearest pixels, first channels."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        if x.shape == y.shape:
            return x + y
        if x.dim() == 4 and x.shape[2:] != y.shape[2:]:
            x = nn.functional.adaptive_avg_pool2d(x, y.shape[2:])
        lacking = y.shape[1] - x.shape[1]
        x = x[:, : y.shape[1]] if lacking <= 0 else torch.cat([x, x.new_zeros(x.shape[0], lacking, *x.shape[2:])], 1)
        return x + y


def concat(*modules: Any) -> Call:
    """One module after the other."""
    return symbolic(_chained, list(modules))


def either(*modules: Any) -> OneOf:
    """One of the modules: the paper's ``Or``."""
    return oneof(modules)


def optional(module: Any) -> OneOf:
    """The module, or none."""
    return oneof([identity(), module])


def repeat(module: Any, times: Sequence[int]) -> Call:
    """As many modules as one of ``times`` says, one after the other, each with choices of its own."""
    return symbolic(_chained, repeated(module, times))


def residual(module: Any) -> Call:
    """The module, and what comes in added to what comes out."""
    return symbolic(_residual, module)


def module(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> Call:
    """A module of one's own: ``make(shape, *args, **kwargs)``, of which the arguments may be choices."""
    return symbolic(_made, make, list(args), dict(kwargs))


def identity() -> Call:
    return module(lambda shape: nn.Identity())


def relu() -> Call:
    return module(lambda shape: nn.ReLU())


def norm() -> Call:
    """Batch normalisation of images or vectors."""
    return module(lambda shape: nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0]))


def conv(filters: Any, kernel: Any, stride: Any = 1) -> Call:
    """A convolution, padded so that only the stride makes images smaller."""
    return module(lambda shape, f, k, s: nn.Conv2d(shape[0], f, k, s, k // 2), filters, kernel, stride)


def max_pool(kernel: Any = 2) -> Call:
    return module(lambda shape, k: nn.MaxPool2d(k, ceil_mode=True), kernel)


def affine(units: Any) -> Call:
    """A linear layer; of an image, of its channels' means."""

    def make(shape: Shape, units: int) -> nn.Module:
        flat = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if len(shape) == 3 else []
        return nn.Sequential(*flat, nn.Linear(shape[0], units))

    return module(make, units)


def dropout(p: Any) -> Call:
    return module(lambda shape, p: nn.Dropout(p), p)


def compile_network(program: Any, arch: Mapping[str, Option], shape: Shape) -> nn.Module:
    """The network that ``arch`` makes of ``program``, for inputs of ``shape``. Raises InputError where the arch is not
    of the program's space, or the modules do not fit each other."""
    make: Maker = materialise(program, arch)
    return make(tuple(shape))


def _made(make: Callable[..., nn.Module], args: list[Any], kwargs: dict[str, Any]) -> Maker:
    return lambda shape: make(shape, *args, **kwargs)


def _chained(makers: Sequence[Maker]) -> Maker:
    def make(shape: Shape) -> nn.Module:
        modules = []
        for maker in makers:
            modules.append(maker(shape))
            shape = _after(modules[-1], shape)
        return nn.Sequential(*modules)

    return make


def _residual(maker: Maker) -> Maker:
    return lambda shape: Residual(maker(shape))


def _after(module: nn.Module, shape: Shape) -> Shape:
    """The shape that a module makes of ``shape``: asked of its own forward pass, without numbers."""
    was = module.training
    try:
        with torch.no_grad(), torch.device("meta"):
            empty = torch.empty(2, *shape)
            out = torch.func.functional_call(
                module.eval(), {n: t.to("meta") for n, t in module.state_dict().items()}, (empty,)
            )
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"{type(module).__name__} does not take {shape}: {str(error).splitlines()[0]}") from error
    finally:
        module.train(was)
    return tuple(out.shape[1:])
