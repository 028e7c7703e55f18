"""``build_nb201(arch)`` and ``build_two_input(arch)``: networks that repeat the cells an arch describes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sartor.blocks.cell import EDGES, FactorizedReduce, ReluConvNorm
from sartor.blocks.drop_path import DropPath
from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.cell import Cell, nas_bench_201
from sartor.space.two_input import Plan, plan


class EdgeCell(nn.Module):
    """Every node the sum of its edges; the last one is the output. [b, c, h, w] → [b, c, h, w]."""

    def __init__(self, space: Cell, arch: Arch, channels: int):
        super().__init__()
        self.edges = space.edges
        self.operators = nn.ModuleList(EDGES[str(arch[choice.name])](channels, 1) for choice in space.choices)

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for to in range(1, max(to for _, to in self.edges) + 1):
            heard = [
                operator(states[start])
                for (start, end), operator in zip(self.edges, self.operators, strict=True)
                if end == to
            ]
            states.append(sum(heard[1:], heard[0]))
        return states[-1]


class Reduction(nn.Module):
    """The residual block that halves the resolution and doubles the channels between stages.

    arXiv:2001.00326 §2.1. [b, c, h, w] → [b, 2c, h/2, w/2], rounded up (the shortcut, an average pool, down: sides are
    to be even)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.first = ReluConvNorm(c_in, c_out, 3, 2)
        self.second = ReluConvNorm(c_out, c_out, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.second(self.first(x))


class Head(nn.Sequential):
    """What follows the cells: a norm where ``norm``, ReLU, global average pool, linear classifier."""

    def __init__(self, channels: int, classes: int, *, norm: bool, relu: bool):
        super().__init__(
            nn.BatchNorm2d(channels) if norm else nn.Identity(),
            nn.ReLU() if relu else nn.Identity(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )


def build_nb201(
    arch: Mapping[str, Option], *, channels: int = 16, cells: int = 5, classes: int = 10, stages: int = 3
) -> nn.Sequential:
    """NAS-Bench-201's network of ``arch``, an arch of :func:`sartor.space.cell.nas_bench_201`, with fresh weights.

    A stem of ``channels``, ``stages`` of ``cells``, between them residual blocks that halve the image and double the
    channels, norm, ReLU, pool, classifier. Images [b, 3, h, w] of sides that divide by 2^(stages-1) → logits.
    Dong & Yang, arXiv:2001.00326 §2.1: parameters and multiply-accumulates are those of the benchmark's own table, so
    what leads only to missing edges is built, too.
    """
    space = nas_bench_201()
    known = space.canonical(arch)
    _positive(channels=channels, cells=cells, classes=classes, stages=stages)
    layers: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    ]
    for stage in range(stages):
        if stage:
            layers.append(Reduction(channels, 2 * channels))
            channels *= 2
        layers += [EdgeCell(space, known, channels) for _ in range(cells)]
    return nn.Sequential(*layers, Head(channels, classes, norm=True, relu=True))


class TwoInputCell(nn.Module):
    """A cell of a :class:`~sartor.space.two_input.Plan`. Both inputs are brought to its channels and one resolution,
    steps add states, the planned ones are concatenated. [b, ., h, w] twice → [b, c · concatenated, h/stride, w/stride].
    """

    def __init__(
        self, planned: Plan, before: tuple[int, int], channels: int, *, halves: bool, halved: bool, depth: float
    ):
        super().__init__()
        self.plan = planned
        first: nn.Module = (
            FactorizedReduce(before[0], channels) if halved else ReluConvNorm(before[0], channels, 1)
        )  # what came before the last cell is twice as large where that one halved
        self.prepare = nn.ModuleList([first, ReluConvNorm(before[1], channels, 1)])
        self.operators, self.drop, self.meet = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for step in planned.steps:
            for state, name in zip(step.inputs, step.operators, strict=True):
                operator = EDGES[name](channels, 2 if halves and state < 2 else 1)
                self.operators.append(operator)
                self.drop.append(nn.Identity() if isinstance(operator, nn.Identity) else DropPath(depth))
            narrow = ReluConvNorm(2 * channels, channels, 1) if step.combine == "concat" else nn.Identity()
            self.meet.append(narrow)
        unheard = [state for state in planned.concat if state < 2 and halves]
        self.reduce = nn.ModuleDict({str(state): FactorizedReduce(channels, channels) for state in unheard})
        self.out_channels = channels * len(planned.concat)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [prepare(x) for prepare, x in zip(self.prepare, (before, last), strict=True)]
        for number, step in enumerate(self.plan.steps):
            heard = [
                self.drop[2 * number + side](self.operators[2 * number + side](states[state]))
                for side, state in enumerate(step.inputs)
            ]
            together = torch.cat(heard, dim=1) if step.combine == "concat" else heard[0] + heard[1]
            states.append(self.meet[number](together))
        out = [self.reduce[str(s)](states[s]) if str(s) in self.reduce else states[s] for s in self.plan.concat]
        return torch.cat(out, dim=1)


class TwoInputNetwork(nn.Module):
    """Stem, cells that each hear the two before it, pool, classifier. [b, 3, h, w] → logits [b, classes]."""

    def __init__(self, stem: nn.Module, cells: nn.ModuleList, head: nn.Module):
        super().__init__()
        self.stem = stem
        self.cells = cells
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.head(last)


def build_two_input(
    arch: Mapping[str, Option], *, channels: int, cells: int, classes: int = 10, relu: bool = False
) -> TwoInputNetwork:
    """The network of ``arch`` (of ``darts_space`` or ``nasnet_space``) with fresh weights, for small images.

    ``cells`` in a row; those a third and two thirds of the way are reduction cells, which double the channels. The stem
    has three times ``channels``. ``relu``: before the classifier, as NASNet has it and DARTS has not. DARTS's network
    for CIFAR has 36 channels and 20 cells (arXiv:1806.09055 §3.2); NASNet's (N @ F) 3N + 2 cells (arXiv:1707.07012 §4).
    Deviation: no auxiliary classifier, which is part of the training. Paths can be dropped: see
    :func:`sartor.blocks.drop_path.scheduled_drop_path`.
    """
    _positive(channels=channels, cells=cells, classes=classes)
    plans = {halves: plan(arch, "reduce" if halves else "normal") for halves in (False, True)}
    stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
    before, halved = (3 * channels, 3 * channels), False
    row = nn.ModuleList()
    for number in range(cells):
        halves = number in (cells // 3, 2 * cells // 3)
        channels *= 2 if halves else 1
        cell = TwoInputCell(plans[halves], before, channels, halves=halves, halved=halved, depth=(number + 1) / cells)
        row.append(cell)
        before, halved = (before[1], cell.out_channels), halves
    return TwoInputNetwork(stem, row, Head(before[1], classes, norm=False, relu=relu))


def _positive(**sizes: int) -> None:
    wrong = {name: size for name, size in sizes.items() if size < 1}
    if wrong:
        raise InputError(f"sizes of a network are 1 or more, not {wrong}")
