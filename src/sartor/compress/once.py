"""Train once: entries of groups are driven to zero while the network trains, and what is left needs no fine-tuning.

Only-train-once (P412, OTOv2, arXiv:2303.06862): the entries of a traced network's groups are its *zero-invariant
groups* (§3.1), and dual half-space projected gradient (DHSPG, §3.2) brings those that matter least to zero while all
others train on as usual. Works with any optimiser: it stands between the steps of a training, not in them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sartor.compress.prune import check_protected
from sartor.errors import BudgetError, InputError
from sartor.graph import Graph, Group
from sartor.graph.groups import protected
from sartor.graph.sliced import agree, lively, outputs_of
from sartor.train.loop import Step

log = logging.getLogger(__name__)

MEMORY = 0.9
"""Of the running mean of the entries' salience, a step. A choice."""


class DHSPG:
    """Zeroes a share ``sparsity`` of the entries of ``graph``'s groups while its model trains with ``step(inner)``.

    From ``start`` to ``end`` of the training's progress, in ``periods``: at the beginning of each the entries of least
    salience are declared redundant, more of them in the first ones (the cubic pace of arXiv:1710.01878); in its course
    they are pulled to zero. An entry whose weights an optimiser's step turned away from where they pointed (out of
    their half-space: inner product under ``epsilon`` of their squared norm) is zero at once, and stays it.

    Groups whose zeroed entries still count (in a layer norm over them) are left whole: ``excluded``. ``protect`` and
    ``least`` are those of :func:`sartor.prune`; the share is of the entries of the groups that are left. Where a
    training stands is in buffers of the model, ``dhspg_*``, until :meth:`small` removes them: what the loop undoes,
    goes back to, and keeps in its checkpoints, it does with them too. They take as much memory again as the weights
    that can be cut: what those were before the optimiser's last step.

    Deviations: the salience is the first-order change of the loss, from the gradients that training has anyway (the
    paper: norm and angle); redundant entries are found in several periods, not once; and the pull is what brings them
    to zero at the period's end, whatever the learning rate, so that the target is met exactly and in time (the paper: a
    penalty whose coefficient a second half-space bounds for each group).

    Raises InputError for options that make no sense, models of other than 32 or 64 bits, and where no group can be
    zeroed; BudgetError where fewer entries may go than are asked for.
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
        if not 0 <= sparsity < 1 or not 0 <= least <= 1:
            raise InputError(
                f"sparsity is a share from 0 to below 1, and least one up to 1, not {sparsity!r}, {least!r}"
            )
        if not 0 <= start < end <= 1 or not 0 <= epsilon < 1 or not isinstance(periods, int) or periods < 1:
            raise InputError(
                f"0 ≤ start < end ≤ 1, at least one period, 0 ≤ epsilon < 1; not {start}, {end}, {periods}, {epsilon}"
            )
        low = next((n for n, p in graph.model.named_parameters() if p.dtype in (torch.float16, torch.bfloat16)), None)
        if low is not None:
            raise InputError(f"{low} has 16 bits: train the model in 32, with autocast if need be")
        check_protected(graph, protect)
        self.graph = graph
        self._edges = [start + (end - start) * i / periods for i in range(periods + 1)]
        self._epsilon = epsilon
        free = [group for group in graph.groups if not protected(group, protect)]
        self.excluded = [group.name for group in free if not zero_invariant(graph, group)]
        if self.excluded:
            log.warning("zeros still count in %s: left whole", ", ".join(self.excluded))
        groups = [group for group in free if group.name not in self.excluded]
        total, most = sum(g.size for g in groups), sum(g.size - _least(g, least) for g in groups)
        self.target = round(sparsity * total)
        if sparsity > 0 and not groups:
            raise InputError(f"no group of {type(graph.model).__name__} can be zeroed: see protect and excluded")
        if self.target > most:
            raise BudgetError(f"{self.target} of {total} entries cannot go: at most {most}, see least and protect")
        self._held = _Held(graph.model)
        self._held.add("period", torch.zeros((), dtype=torch.int64))
        self._held.add("progress", torch.tensor(start, dtype=torch.float64))
        self._entries = [_Entries(graph, group, least, self._held, str(i)) for i, group in enumerate(groups)]

    def step(self, inner: Step) -> Step:
        """``inner``, the step of an ordinary training of the graph's model, with the projection before it: what the
        optimiser did in the step before is put right first."""

        def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
            self._project(progress)
            loss = inner(images, labels, progress, index)
            if math.isfinite(loss):
                for entries in self._entries:
                    entries.weigh(self.graph.model, salience=progress < self._edges[-1])
            return loss

        return step

    def small(self) -> nn.Module:
        """The network without its zero entries, whose weights are zeroed for good (an average of weights may still
        hold a trace of them): the very same function.

        Raises InputError before the training has come to the last of the periods.
        """
        if int(self._held["period"]) < len(self._edges) - 1:
            raise InputError("train the network with DHSPG.step first: not all that goes is known yet")
        self._project(1.0)
        self._held.remove()
        keep = {entries.name: (~entries.zero).nonzero()[:, 0].tolist() for entries in self._entries}
        return self.graph.slice(self.graph.completed(keep))

    @property
    def zeros(self) -> int:
        """Entries that are zero for good."""
        return sum(int(entries.zero.sum()) for entries in self._entries)

    @torch.no_grad()
    def _project(self, progress: float) -> None:
        """Pull, project, and at the end of a period declare what goes next."""
        model, period, last = self.graph.model, self._held["period"], len(self._edges) - 1
        while int(period) < last and progress >= self._edges[int(period)]:
            if int(period):  # what was declared redundant at the last edge is due
                for entries in self._entries:
                    entries.pull(model, 0.0, self._epsilon)
            self._declare(1 - (1 - (int(period) + 1) / last) ** 3)
            self._held["progress"].fill_(self._edges[int(period)])
            period += 1
        edge, before = self._edges[int(period)], float(self._held["progress"])
        left = min(1.0, max(0.0, edge - progress) / (edge - before)) if before < edge else 0.0
        for entries in self._entries:
            entries.pull(model, left, self._epsilon)
        self._held["progress"].fill_(max(before, progress))

    def _declare(self, share: float) -> None:
        """The least salient entries become redundant until ``share`` of the target is."""
        every = self._entries
        wanted = round(share * self.target) - sum(int(entries.redundant.sum()) for entries in every)
        ranked = sorted(
            (float(score), i, entry)
            for i, entries in enumerate(every)
            for entry, score in enumerate(entries.scores(self.graph.model))
            if not entries.redundant[entry]
        )
        for _, i, entry in ranked:
            if wanted <= 0:
                break
            if len(every[i].redundant) - int(every[i].redundant.sum()) > every[i].least:
                every[i].redundant[entry] = True
                wanted -= 1


class _Held:
    """Where a training stands, in buffers of the model, and so in its checkpoints: changed in place only, and looked up
    each time, as a model that is moved has others. Rejected: a module in the model, which containers would call."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._names: list[str] = []
        self._removed: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        self._names.append(name)
        self._model.register_buffer(f"dhspg_{name}", value)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        return self._removed[name] if name in self._removed else self._model.get_buffer(f"dhspg_{name}")

    def remove(self) -> None:
        self._removed |= {name: self[name] for name in self._names}
        for name in self._names:
            self._model._buffers.pop(f"dhspg_{name}", None)


class _Entries:
    """The entries of one group, where in the parameters they are, and how they stand."""

    def __init__(self, graph: Graph, group: Group, least: float, held: _Held, number: str):
        self.name, self.least = group.name, _least(group, least)
        self._held, self._number = held, number
        parameters = dict(graph.model.named_parameters())
        self._places = [
            (tie.tensor, tie.dim, torch.from_numpy(owner))
            for tie, owner in graph.entries(group)
            if tie.tensor in parameters
        ]
        device = next(iter(parameters.values())).device
        held.add(f"{number}_salience", torch.zeros(group.size, device=device))
        held.add(f"{number}_redundant", torch.zeros(group.size, dtype=torch.bool, device=device))
        held.add(f"{number}_zero", torch.zeros(group.size, dtype=torch.bool, device=device))
        order = {name: i for i, name in enumerate(parameters)}
        self._befores = {name: f"before_{order[name]}" for name, _, _ in self._places}
        for name, before in self._befores.items():  # weights before the optimiser's last step, zeros where unknown
            if before not in held:  # a weight of two groups needs one
                held.add(before, torch.zeros_like(parameters[name].detach()))

    @property
    def salience(self) -> Tensor:
        return self._held[f"{self._number}_salience"]

    @property
    def redundant(self) -> Tensor:
        return self._held[f"{self._number}_redundant"]

    @property
    def zero(self) -> Tensor:
        return self._held[f"{self._number}_zero"]

    def _before(self, i: int) -> Tensor:
        return self._held[self._befores[self._places[i][0]]]

    @torch.no_grad()
    def weigh(self, model: nn.Module, *, salience: bool) -> None:
        """Take the gradients of a step into account; what is zero gets none."""
        places = [(model.get_parameter(name), dim, owner) for name, dim, owner in self._places]
        if salience:
            change = torch.zeros_like(self.salience)
            for parameter, dim, owner in places:
                if parameter.grad is not None and dim == 0:
                    _add(change, parameter * parameter.grad, dim, owner)
            if bool(change.isfinite().all()):
                self.salience.lerp_(change.square(), 1 - MEMORY)
        moving = bool((self.redundant & ~self.zero).any())
        for i, (parameter, dim, owner) in enumerate(places):
            if parameter.grad is not None:
                parameter.grad.mul_(_spread((~self.zero).to(parameter.dtype), parameter, dim, owner))
            if moving:
                self._before(i).copy_(parameter)

    def scores(self, model: nn.Module) -> Tensor:
        """Salience over the group's mean; by the weights' norm where there were no gradients yet."""
        found = self.salience
        if not bool(found.any()):
            found = torch.zeros_like(self.salience)
            for name, dim, owner in self._places:
                _add(found, model.get_parameter(name).detach().square(), dim, owner)
        return found / found.mean().clamp(min=1e-30)

    @torch.no_grad()
    def pull(self, model: nn.Module, left: float, epsilon: float) -> None:
        """Leave ``left`` of what redundant entries weigh; those out of their half-space, and all where nothing is to
        be left, are zero from now on."""
        if not bool(self.redundant.any()):
            return
        places = [(model.get_parameter(name), dim, owner) for name, dim, owner in self._places]
        if bool((self.redundant & ~self.zero).any()):
            inner, square = torch.zeros_like(self.salience), torch.zeros_like(self.salience)
            for i, (parameter, dim, owner) in enumerate(places):
                _add(inner, parameter * self._before(i), dim, owner)
                _add(square, self._before(i).square(), dim, owner)
            self.zero.logical_or_(self.redundant & ((left * inner < epsilon * square) | (left <= 0)))
        factor = torch.ones_like(self.salience)
        factor[self.redundant] = left
        factor[self.zero] = 0.0
        for parameter, dim, owner in places:
            parameter.mul_(_spread(factor.to(parameter.dtype), parameter, dim, owner))


def _least(group: Group, share: float) -> int:
    return max(1, math.ceil(share * group.size))


def _add(total: Tensor, values: Tensor, dim: int, owner: Tensor) -> None:
    """Add ``values`` of the positions of a dimension to their entries."""
    sums = values.movedim(dim, 0).flatten(1).sum(1) if values.dim() > 1 else values
    owner = owner.to(total.device)
    total.index_add_(0, owner[owner >= 0], sums.to(total)[owner >= 0])


def _spread(factor: Tensor, like: Tensor, dim: int, owner: Tensor) -> Tensor:
    """A factor an entry as one a position of ``like``'s dimension."""
    owner = owner.to(factor.device)
    spread = torch.where(
        owner >= 0, factor[owner.clamp(min=0)], torch.ones((), dtype=factor.dtype, device=factor.device)
    )
    return spread.to(like.device).view([-1 if d == dim else 1 for d in range(like.dim())])


@torch.no_grad()
def zero_invariant(graph: Graph, group: Group) -> bool:
    """Whether zeroing every parameter of entries of ``group`` is the same as cutting them, tried on each second one, on
    random inputs of the example's shapes."""
    model = graph.model
    generator = torch.Generator().manual_seed(0)
    drawn = lambda v: torch.randn(v.shape, generator=generator).to(v) if _floating(v) else v
    args, kwargs = pytree.tree_map(drawn, graph.inputs)
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


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
