"""Structured pruning: whole entries of groups go, by a criterion, until the network is as small as asked."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.compress.choose import RANKINGS, Ranking
from sartor.compress.rounds import in_rounds
from sartor.compress.statistics import recalibrated
from sartor.errors import InputError
from sartor.graph import Cut, Graph, trace
from sartor.graph.capture import Inputs
from sartor.graph.saliency import (
    LOSS_UNITS,
    SALIENCIES,
    SEE_DATA,
    Evidence,
    Loss,
    Saliency,
    read_by_layers,
)

Tune = Callable[[nn.Module], Any]

ROUNDS = 4
"""Rounds in which entries are chosen by criteria that see data: what the first cuts leave is judged anew. A choice,
made in a trial that no command repeats: a deep ResNet asked for more than one, shallow networks did not."""


def prune(
    model: nn.Module,
    inputs: Inputs,
    *,
    macs: float | None = None,
    params: float | None = None,
    saliency: str | Saliency | None = None,
    ranking: Ranking | None = None,
    rounds: int | None = None,
    depth: bool = False,
    steps: int = 1,
    schedule: str | Callable[[float], float] = "linear",
    protect: Sequence[str] = (),
    least: float = 0.1,
    round_to: int = 1,
    batches: Sequence[tuple[Any, Any]] = (),
    loss: Loss = F.cross_entropy,
    compensate: bool = False,
    tune: Tune | None = None,
    seed: int = 0,
) -> nn.Module:
    """A smaller ``model``: an ordinary module, ``model`` itself is left as it is.

    ``macs``, ``params``: what may be left on the example ``inputs``, as a share up to 1 or as a number; both where both
    are given, half of the multiply-accumulates where neither is. ``saliency``: a name of :data:`SALIENCIES` or a
    function of their form, by itself ``fisher`` with data and ``l2`` without; ``batches`` of (inputs, targets) are for
    criteria that need data, and recalibrate the batch-norm statistics after every cut, without which a cut network is
    at chance. ``ranking``: ``global`` compares entries of all groups by their score over their group's mean, ``cost``
    by their score over what they cost, ``layer`` takes the same share of each group; by itself ``cost`` for criteria
    in units of the loss, else ``global``. ``rounds``: in each of them some of what goes is chosen, and the criterion
    asked again with that away; by itself 4 for criteria that see data. ``depth``: whole blocks may go, too (those of
    ``Graph.blocks``; by ``fisher``), which saves more time than arithmetic. ``steps`` cuts with ``tune(module)`` after
    each, towards the goal as ``schedule`` says: ``linear``, ``cubic`` (most of it early; arXiv:1710.01878 §3,
    P364), or a function of progress.

    ``protect``: names of layers (``head``, ``layer4.*``) whose tensors keep their shape. ``least``: the share of a
    group that stays. ``round_to``: entries are kept in multiples of it, where the group has as many. ``compensate``:
    the mean of what a layer no longer reads goes into its bias (P275).

    Raises InputError for what makes no sense, and BudgetError where the goal cannot be reached, naming what can.
    """
    if macs is None and params is None:
        macs = 0.5
    module, *_ = prune_in_steps(
        model,
        inputs,
        macs=macs,
        params=params,
        saliency=saliency,
        ranking=ranking,
        rounds=rounds,
        depth=depth,
        steps=steps,
        schedule=schedule,
        protect=protect,
        least=least,
        round_to=round_to,
        evidence=Evidence(batches, loss, seed),
        compensate=compensate,
        tune=tune,
    )
    return module


def prune_in_steps(
    model: nn.Module,
    inputs: Inputs,
    *,
    macs: float | None,
    params: float | None,
    saliency: str | Saliency | None,
    ranking: Ranking | None,
    rounds: int | None,
    depth: bool,
    steps: int,
    schedule: str | Callable[[float], float],
    protect: Sequence[str],
    least: float,
    round_to: int,
    evidence: Evidence,
    compensate: bool = False,
    tune: Tune | None = None,
) -> tuple[nn.Module, Cut, tuple[Cut, ...]]:
    """:func:`prune`, what is left of ``model``'s groups and blocks after all steps, and each step's cut."""
    saliency, criterion = criterion_for(saliency, evidence, depth=depth)
    ranking = ranking or ("cost" if saliency in LOSS_UNITS else "global")
    rounds = (ROUNDS if saliency in SEE_DATA else 1) if rounds is None else rounds
    _check(model, macs, params, ranking, rounds, steps, least, round_to)
    if depth and (saliency != "fisher" or ranking != "cost"):
        raise InputError("with depth, entries and blocks compare by fisher and cost: leave saliency and ranking out")
    if depth:
        evidence.seen("fisher")
    pace = _schedule(schedule)
    whole = trace(model, inputs)
    check_protected(whole, protect)
    goals = _goals(whole, macs, params)
    start = {"macs": whole.macs(), "params": whole.params()}
    module = model
    left: dict[str, list[Tensor]] = {}
    cuts: list[Cut] = []
    for step in range(1, steps + 1):
        graph = whole if module is model else trace(module, inputs)
        share = 1.0 if step == steps else pace(step / steps)
        limits = {name: round(start[name] + (goal - start[name]) * share) for name, goal in goals.items()}
        floors = _floors(graph, least) if graph is whole else _floors_of_first(whole, graph, left, least)
        *_, cut = in_rounds(
            graph,
            criterion,
            _goals_of_rounds(graph, limits, rounds),
            evidence,
            depth=depth,
            ranking=ranking,
            protect=protect,
            floors=floors,
            round_to=round_to,
        )
        cuts.append(cut)
        left = _left(graph, cut, left)
        module = shrink(graph, cut, evidence, compensate=compensate)
        if tune is not None:
            tune(module)
    gone = tuple(path for cut in cuts for path in cut.without)
    return module, Cut(_as_one(whole, left).keep, gone), tuple(cuts)


def _goals_of_rounds(graph: Graph, limits: Mapping[str, int], rounds: int) -> list[dict[str, int]]:
    """Limits ever tighter, each the same share of the one before, down to ``limits``."""
    start = {"macs": graph.macs(), "params": graph.params()}
    shares = [number / rounds for number in range(1, rounds)]
    ways = {name: max(1, limit) / start[name] for name, limit in limits.items()}
    return [*({n: max(limits[n], round(start[n] * way**s)) for n, way in ways.items()} for s in shares), dict(limits)]


def _floors(graph: Graph, least: float) -> dict[str, int]:
    """Entries of each group that stay."""
    return {group.name: max(1, math.ceil(least * group.size)) for group in graph.groups}


def _floors_of_first(whole: Graph, graph: Graph, left: Mapping[str, list[Tensor]], least: float) -> dict[str, int]:
    """:func:`_floors` by the groups of the first network, of which ``left`` is left."""
    first = {}
    for group in whole.groups:
        for tie, owner in whole.entries(group):
            first[tie.tensor, tie.dim, group.name] = (owner, group.size)
    floors = {}
    for group in graph.groups:
        tie, owner = next(iter(graph.entries(group)))
        position = int(left[tie.tensor][tie.dim][int((owner == 0).argmax())])
        sizes = [size for (t, d, _), (o, size) in first.items() if (t, d) == (tie.tensor, tie.dim) and o[position] >= 0]
        floors[group.name] = max(1, math.ceil(least * max(sizes, default=group.size)))
    return floors


def check_protected(graph: Graph, patterns: Sequence[str]) -> None:
    """Raises InputError for patterns that protect nothing: a mistyped layer would be cut."""
    names = {name for name, _ in graph.model.named_modules()} | set(graph.tensors)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for name in names):
            near = difflib.get_close_matches(pattern, sorted(names), n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise InputError(f"no layer of {type(graph.model).__name__} is called {pattern!r}{hint}")


def criterion_for(
    saliency: str | Saliency | None, evidence: Evidence, *, depth: bool = False
) -> tuple[str | Saliency, Saliency]:
    """The name, where it has one, and the function of what was asked for: ``fisher`` by itself where there are data, or
    blocks to judge (which will need some), else ``l2``."""
    named = next((name for name, known in SALIENCIES.items() if known is saliency), saliency)
    named = named if named is not None else "fisher" if len(evidence.batches) or depth else "l2"
    return named, criterion_named(named)


def criterion_named(saliency: str | Saliency) -> Saliency:
    """A criterion by its name, or itself. Raises InputError for names there are not."""
    if callable(saliency):
        return saliency
    if saliency not in SALIENCIES:
        raise InputError(f"there is no criterion {saliency!r}: {', '.join(SALIENCIES)}")
    return SALIENCIES[saliency]


def _left(graph: Graph, cut: Cut, before: Mapping[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """By tensor and dimension: the positions of the first network that are left after ``cut`` of the present one."""
    left = {}
    gone = tuple(f"{path}." for path in cut.without)
    for name, indices in graph.indices(cut).items():
        if name.startswith(gone):
            continue
        sizes = [len(label) for label in graph.tensors[name].dims]
        held = before.get(name) or [torch.arange(size) for size in sizes]
        left[name] = [old if index is None else old[index] for old, index in zip(held, indices, strict=True)]
    return left


def _as_one(graph: Graph, left: Mapping[str, list[Tensor]]) -> Cut:
    """The cut of ``graph`` that leaves these positions. By tensors: groups of one entry have no name to go by."""
    keep = {}
    for group in graph.groups:
        found = next(((tie, owner) for tie, owner in graph.entries(group) if tie.tensor in left), None)
        if found is None:  # its blocks are gone
            continue
        tie, owner = found
        entries = torch.from_numpy(owner)[left[tie.tensor][tie.dim]].unique()
        kept = tuple(entries[entries >= 0].tolist())
        if len(kept) < group.size:
            keep[group.name] = kept
    return Cut(keep)


def shrink(graph: Graph, cut: Cut, evidence: Evidence, *, compensate: bool = False) -> nn.Module:
    """The graph's model after ``cut``, its batch-norm statistics recalibrated where there are batches."""
    module = graph.slice(cut)
    if compensate:
        _compensate(graph, cut, module, evidence)
    recalibrated(module, evidence)
    return module


@torch.no_grad()
def _compensate(graph: Graph, cut: Cut, module: nn.Module, evidence: Evidence) -> None:
    """Add to each layer's bias what the mean of its lost inputs made: W[:, lost] · mean[lost] (P275).

    Exact for a constant input; for a padded convolution, exact away from the border. Layers with groups are left alone.
    """
    lost: dict[str, Tensor] = {}
    means: dict[str, Tensor] = {}
    for group, held in read_by_layers(graph, evidence, "compensate"):
        gone = torch.ones(group.size, dtype=torch.bool)
        gone[list(cut.keep.get(group.name, range(group.size)))] = False
        for layer, own, (mean, _) in held:
            mine = (own >= 0) & gone[own.clamp(min=0)]
            lost[layer] = lost.get(layer, torch.zeros(len(own), dtype=torch.bool)) | mine
            means[layer] = mean
    gone_blocks = tuple(f"{path}." for path in cut.without)
    for layer, channels in lost.items():
        if layer.startswith(gone_blocks):
            continue
        old: Any = graph.model.get_submodule(layer)
        new: Any = module.get_submodule(layer)
        if getattr(old, "groups", 1) != 1 or not bool(channels.any()):
            continue
        weight = old.weight.detach().double()
        weight = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
        shift = weight[:, channels] @ means[layer][channels]
        rows = _kept_rows(graph, cut, f"{layer}.weight")
        shift = shift[rows] if rows is not None else shift
        if new.bias is None:
            new.bias = nn.Parameter(torch.zeros(len(shift)))
        new.bias += shift.to(new.bias.dtype)


def _kept_rows(graph: Graph, cut: Cut, tensor: str) -> Tensor | None:
    """Which positions of dimension 0 of ``tensor`` stay; None where all do."""
    gone: Tensor | None = None
    for group in graph.groups:
        if group.name not in cut.keep:
            continue
        lost = torch.ones(group.size, dtype=torch.bool)
        lost[list(cut.keep[group.name])] = False
        for tie, owner in graph.entries(group):
            if tie.tensor == tensor and tie.dim == 0:
                own = torch.from_numpy(owner)
                mine = (own >= 0) & lost[own.clamp(min=0)]
                gone = mine if gone is None else gone | mine
    return None if gone is None else ~gone


def _goals(graph: Graph, macs: float | None, params: float | None) -> dict[str, int]:
    goals = {}
    for name, wanted, whole in (("macs", macs, graph.macs()), ("params", params, graph.params())):
        if wanted is not None:
            goals[name] = math.floor(wanted * whole) if wanted <= 1 else math.floor(wanted)
    return goals


def _schedule(schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    known: dict[str, Callable[[float], float]] = {"linear": lambda p: p, "cubic": lambda p: 1 - (1 - p) ** 3}
    if callable(schedule):
        return schedule
    if schedule not in known:
        raise InputError(f"there is no schedule {schedule!r}: {', '.join(known)}, or a function of progress")
    return known[schedule]


def _check(
    model: nn.Module,
    macs: float | None,
    params: float | None,
    ranking: str,
    rounds: int,
    steps: int,
    least: float,
    round_to: int,
) -> None:
    if macs is None and params is None:
        raise InputError("say what may be left: macs=0.5 or params=0.5")
    for name, wanted in (("macs", macs), ("params", params)):
        if wanted is not None and not wanted > 0:
            raise InputError(f"{name} is a share up to 1 or a number above it, not {wanted!r}")
    if ranking not in RANKINGS:
        raise InputError(f"ranking is one of {', '.join(RANKINGS)}, not {ranking!r}")
    if steps < 1 or rounds < 1 or round_to < 1 or not 0 <= least <= 1:
        raise InputError(
            f"steps, rounds and round_to are at least 1, least is a share: not {steps}, {rounds}, {round_to}, {least}"
        )
    if any(t.is_floating_point() and not bool(t.isfinite().all()) for t in model.state_dict().values()):
        raise InputError("the model has weights that are not finite: load ones that are")
