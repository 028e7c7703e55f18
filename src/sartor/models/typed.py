"""Networks of :mod:`sartor.space.typed`'s programs: checked first, then built."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sartor.space.typed import Beside, Chain, Conv, Flatten, Linear, Pointwise, Pool, Program, Shape, type_check


class Parallel(nn.Module):
    """What the parts give for the same input, added or concatenated along channels."""

    def __init__(self, parts: Sequence[nn.Module], merge: str):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.merge = merge

    def forward(self, x: Tensor) -> Tensor:
        made = [part(x) for part in self.parts]
        return torch.cat(made, 1) if self.merge == "cat" else torch.stack(made).sum(0)


def build_typed(program: Program, shape: Shape) -> nn.Module:
    """The network of ``program`` for inputs ``[b, *shape]``. Raises InputError before anything is built where it does
    not type-check."""
    type_check(program, shape)
    return _built(program, shape)


def _built(program: Program, shape: Shape) -> nn.Module:
    if isinstance(program, Chain):
        parts = []
        for part in program.parts:
            parts.append(_built(part, shape))
            shape = type_check(part, shape)
        return nn.Sequential(*parts)
    if isinstance(program, Beside):
        return Parallel([_built(part, shape) for part in program.parts], program.merge)
    if isinstance(program, Conv):
        return nn.Conv2d(
            shape[0],
            program.out,
            program.kernel,
            program.stride,
            program.padding,
            dilation=program.dilation,
            groups=program.groups,
        )
    if isinstance(program, Pool):
        kind = nn.MaxPool2d if program.kind == "max" else nn.AvgPool2d
        return kind(program.kernel, program.stride, program.padding)
    if isinstance(program, Linear):
        return nn.Linear(shape[0], program.out)
    if isinstance(program, Flatten):
        return nn.Flatten()
    assert isinstance(program, Pointwise)
    if program.name == "norm":
        return nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])
    return {"identity": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU}[program.name]()
