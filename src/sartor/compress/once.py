"""Train once: entries of groups are driven to zero while the network trains, and what is left needs no fine-tuning.

Only-train-once (P412, OTOv2, arXiv:2303.06562): the entries of a traced network's groups are its *zero-invariant
groups* (§3.1), and dual half-space projected gradient (DHSPG, §3.2) brings those that matter least to zero while all
others train on as usual. Works with any optimiser: it stands between the steps of a training, not in them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sartor.compress.prune import check_protected
from sartor.errors import BudgetError, InputError
from sartor.graph import Cut, Graph, Group
from sartor.graph.groups import protected
from sartor.graph.sliced import agree, lively, outputs_of
from sartor.train.loop import Step

log = logging.getLogger(__name__)

MEMORY = 0.9
"""Of the running mean of the entries' salience, a step. A choice."""


class DHSPG:
    """Zeroes a share ``sparsity`` of all entries of ``graph``'s groups while its model trains with ``step(inner)``.

    From ``start`` to ``end`` of the training's progress, in ``periods``: at the beginning of each the entries of least
    salience are declared redundant, more of them in the first ones (the cubic pace of arXiv:1710.01878); in its course
    they are pulled to zero. An entry whose weights an optimiser's step turned away from where they pointed (out of
    their half-space: inner product under ``epsilon`` of their squared norm) is zero at once, and stays it.

    Groups whose zeroed entries still count (in a layer norm over them) are left whole: ``excluded``. ``protect`` and
    ``least`` are those of :func:`sartor.prune`.

    Deviations: the salience is the first-order change of the loss, from the gradients that training has anyway (the
    paper: norm and angle); redundant entries are found in several periods, not once; and the pull is what brings them
    to zero at the period's end, whatever the learning rate, so that the target is met exactly and in time (the paper: a
    penalty with a coefficient to be tuned).

    Raises InputError for shares that make no sense, BudgetError where fewer entries may go than are asked for.
    """

    def __init__(
        self,
        graph: Graph,
        sparsity: float = 0.5,
        *,
        start: float = 0.1,
        end: float = 0.5,
        periods: int = 5,
        epsilon: float = 0.0,
        protect: Sequence[str] = (),
        least: float = 0.1,
    ):
        if not 0 <= sparsity < 1:
            raise InputError(f"sparsity is a share from 0 to below 1, not {sparsity!r}")
        if not 0 <= start < end <= 1 or periods < 1 or not 0 <= epsilon < 1:
            raise InputError(
                f"0 ≤ start < end ≤ 1, at least one period, 0 ≤ epsilon < 1; not {start}, {end}, {periods}, {epsilon}"
            )
        check_protected(graph, protect)
        self.graph = graph
        self._edges = [start + (end - start) * i / periods for i in range(periods + 1)]
        self._epsilon = epsilon
        free = [group for group in graph.groups if not protected(group, protect)]
        self.excluded = [group.name for group in free if not zero_invariant(graph, group)]
        if self.excluded:
            log.warning("zeros still count in %s: left whole", ", ".join(self.excluded))
        self._entries = [_Entries(graph, group, least) for group in free if group.name not in self.excluded]
        total = sum(len(entries.salience) for entries in self._entries)
        self.target = round(sparsity * total)
        most = sum(len(entries.salience) - entries.least for entries in self._entries)
        if self.target > most:
            raise BudgetError(f"{self.target} of {total} entries cannot go: at most {most}, see least and protect")
        self._period = 0
        self._progress = start

    def step(self, inner: Step) -> Step:
        """``inner``, the step of an ordinary training of the graph's model, with the projection before it: what the
        optimiser did in the step before is put right first."""

        def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
            self._project(progress)
            loss = inner(images, labels, progress, index)
            if progress < self._edges[-1]:
                for entries in self._entries:
                    entries.weigh()
            return loss

        return step

    def small(self) -> nn.Module:
        """The network without its zero entries, whose weights are zeroed for good (an average of weights may still
        hold a trace of them): the very same function.

        Raises InputError before the training has come to the last of the periods.
        """
        if self._period < len(self._edges) - 1:
            raise InputError("train the network with DHSPG.step first: not all that goes is known yet")
        self._project(1.0)
        keep = {entries.name: (~entries.zero).nonzero()[:, 0].tolist() for entries in self._entries}
        return self.graph.slice(self.graph.completed(Cut({name: tuple(kept) for name, kept in keep.items()})))

    @property
    def zeros(self) -> int:
        """Entries that are zero for good."""
        return sum(int(entries.zero.sum()) for entries in self._entries)

    @torch.no_grad()
    def _project(self, progress: float) -> None:
        """Pull, project, and at the end of a period declare what goes next."""
        while self._period < len(self._edges) - 1 and progress >= self._edges[self._period]:
            if self._period:  # what was declared redundant at the last edge is due
                for entries in self._entries:
                    entries.pull(0.0, self._epsilon)
            self._declare(1 - (1 - (self._period + 1) / (len(self._edges) - 1)) ** 3)
            self._progress = self._edges[self._period]
            self._period += 1
        edge = self._edges[self._period]
        left = max(0.0, edge - progress) / (edge - self._progress) if self._progress < edge else 0.0
        for entries in self._entries:
            entries.pull(left, self._epsilon)
        self._progress = max(self._progress, progress)

    def _declare(self, share: float) -> None:
        """The least salient entries become redundant until ``share`` of the target is."""
        wanted = round(share * self.target) - sum(int(e.redundant.sum()) for e in self._entries)
        ranked = sorted(
            (float(score), i, entry)
            for i, entries in enumerate(self._entries)
            for entry, score in enumerate(entries.scores())
            if not entries.redundant[entry]
        )
        for _, i, entry in ranked:
            if wanted <= 0:
                break
            entries = self._entries[i]
            if len(entries.redundant) - int(entries.redundant.sum()) > entries.least:
                entries.redundant[entry] = True
                wanted -= 1


class _Entries:
    """The entries of one group, and where in the parameters they are."""

    def __init__(self, graph: Graph, group: Group, least: float):
        self.name = group.name
        self.least = max(1, math.ceil(least * group.size))
        self.salience = torch.zeros(group.size)
        self.redundant = torch.zeros(group.size, dtype=torch.bool)
        self.zero = torch.zeros(group.size, dtype=torch.bool)
        parameters = dict(graph.model.named_parameters())
        self._places = [
            (parameters[tie.tensor], tie.dim, torch.from_numpy(owner))
            for tie, owner in graph.entries(group)
            if tie.tensor in parameters
        ]
        self._before: list[Tensor] | None = None

    def weigh(self) -> None:
        """Take the gradients of a step into account; what is zero gets none."""
        change = torch.zeros_like(self.salience)
        for parameter, dim, owner in self._places:
            if parameter.grad is not None and dim == 0:
                self._add(change, parameter.detach() * parameter.grad, dim, owner)
        self.salience.lerp_(change.square(), 1 - MEMORY)
        for parameter, dim, owner in self._places:
            if parameter.grad is not None:
                parameter.grad.mul_(self._spread((~self.zero).to(parameter.dtype), parameter, dim, owner))
        self._before = [parameter.detach().clone() for parameter, _, _ in self._places] if self._moving else None

    def scores(self) -> Tensor:
        """Salience over the group's mean; by the weights' norm where there were no gradients yet."""
        found = self.salience
        if not bool(found.any()):
            found = torch.zeros_like(self.salience)
            for parameter, dim, owner in self._places:
                self._add(found, parameter.detach().square(), dim, owner)
        return found / found.mean().clamp(min=1e-30)

    @property
    def _moving(self) -> bool:
        return bool((self.redundant & ~self.zero).any())

    def pull(self, left: float, epsilon: float) -> None:
        """Leave ``left`` of what redundant entries weigh; those out of their half-space, and all where nothing is to
        be left, are zero from now on."""
        if not bool(self.redundant.any()):
            return
        if self._moving:
            gone = torch.zeros_like(self.zero)
            if self._before is not None:
                inner, square = torch.zeros_like(self.salience), torch.zeros_like(self.salience)
                for (parameter, dim, owner), before in zip(self._places, self._before, strict=True):
                    self._add(inner, parameter.detach() * before, dim, owner)
                    self._add(square, before.square(), dim, owner)
                gone = left * inner < epsilon * square
            self.zero |= self.redundant & (gone | (left <= 0))
        factor = torch.ones_like(self.salience)
        factor[self.redundant] = left
        factor[self.zero] = 0.0
        for parameter, dim, owner in self._places:
            parameter.data.mul_(self._spread(factor.to(parameter.dtype), parameter, dim, owner))
        self._before = None

    @staticmethod
    def _add(total: Tensor, values: Tensor, dim: int, owner: Tensor) -> None:
        sums = values.movedim(dim, 0).flatten(1).sum(1) if values.dim() > 1 else values
        total.index_add_(0, owner[owner >= 0], sums[owner.to(sums.device) >= 0].to(total))

    @staticmethod
    def _spread(factor: Tensor, like: Tensor, dim: int, owner: Tensor) -> Tensor:
        """A factor an entry as one a position of ``like``'s dimension."""
        spread = torch.where(owner >= 0, factor[owner.clamp(min=0)], torch.ones((), dtype=factor.dtype))
        return spread.to(like.device).view([-1 if d == dim else 1 for d in range(like.dim())])


@torch.no_grad()
def zero_invariant(graph: Graph, group: Group) -> bool:
    """Whether zeroing every parameter of entries of ``group`` is the same as cutting them, tried on each second one."""
    model, (args, kwargs) = graph.model, graph.inputs
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    try:
        for name, value in lively(model).items():  # fresh gains and biases of zero would hide what counts
            if name in tensors:
                tensors[name].data.copy_(value)
        for tie, owner in graph.entries(group):
            if tie.tensor in tensors and isinstance(tensors[tie.tensor], nn.Parameter):
                rows = torch.from_numpy((owner >= 0) & (owner % 2 == 1)).to(tensors[tie.tensor].device)
                tensors[tie.tensor].data.movedim(tie.dim, 0)[rows] = 0
        small = graph.as_graph(graph.completed({group.name: range(0, group.size, 2)}))
        return agree(outputs_of(small, args, kwargs), outputs_of(model, args, kwargs))
    finally:
        for name, value in before.items():
            tensors[name].data.copy_(value)
