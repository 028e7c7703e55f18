"""The one training loop: planned in time, counted in steps, resumable at a checkpoint, safe from NaN.

Time enters only at *plan points*, through ``decide(key, compute)``: what it returns is what counts, and a caller that
writes the decisions down and gives them back (``sartor.recipes.journal``) gets the same weights again, bit for bit on
a CPU, however often the run was killed in between.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sartor.disk import write_atomic
from sartor.errors import Diverged, InputError
from sartor.train.device import keep_freed_memory
from sartor.train.muon import Muon

Decide = Callable[[str, Callable[[], Any]], Any]
Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
Step = Callable[[Tensor, Tensor, float, int], float]

LR_STEPS = (30 / 90, 60 / 90, 80 / 90)
"""Where a stepwise descent goes to a tenth: ResNet's epochs (arXiv:1706.02677 §5.1, and its 80th in later code)."""
_LOWEST_LR_SCALE = 0.5**3
"""A loss that is not finite even at this share of the learning rate comes from the data."""


@dataclass(frozen=True)
class Recipe:
    """Numbers of one training. ``peak_lr`` is for a batch of 256 and scales with the batch;
    Muon's is ``muon_share`` of it. Transformers take ``adamw``, with a ``peak_lr`` hundreds of times smaller. Compare
    with ``benchmarks/recipe.py``; Muon against SGD is in docs/log.md, the other numbers are choices. ``descent``: the
    learning rate's way down; ``ema_half_life``: a share of the training, 0 for no average."""

    optimiser: Literal["muon", "sgd", "adamw"] = "muon"
    batch_size: int = 256
    peak_lr: float = 0.4
    muon_share: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup: float = 0.05
    ema_half_life: float = 0.01
    clip_norm: float = 5.0
    last_lr_share: float = 0.0
    descent: Literal["linear", "cosine", "steps"] = "linear"

    def lr(self, progress: float) -> float:
        """Learning rate at ``progress`` in [0, 1]: linear warm-up, then linear to exactly zero (arXiv:1708.07120), or
        there by half a cosine (arXiv:1608.03983), or to a tenth at each of ``LR_STEPS``.

        To ``last_lr_share`` of the peak, where another training goes on from there.
        """
        rising = progress / self.warmup if self.warmup > 0 else 1.0
        left = (1 - progress) / (1 - self.warmup)
        if self.descent == "cosine":
            left = (1 - math.cos(math.pi * min(1.0, left))) / 2
        elif self.descent == "steps":
            left = 0.1 ** sum(progress >= step for step in LR_STEPS)
        falling = self.last_lr_share + (1 - self.last_lr_share) * left
        return self.peak_lr * self.batch_size / 256 * min(rising, falling)


PACE_SHARE = 0.05
"""Of a training's time: what measuring its pace may take. A choice."""

PLAN_EVERY_S = 20.0
"""Seconds between plan points, at most: there the rest is planned anew and a checkpoint is written."""


@dataclass
class Training:
    """Where a training stands. ``progress`` grows by its share of the remaining steps: re-planning causes no jump.

    ``every``: steps between plan points, fixed at the start, so that a resumed training plans at the same steps.
    ``elapsed``: seconds of work up to the last plan point; ``started``: those before the first step; ``expected``: what
    the steps so far should have taken. ``lr_scale`` halves each time the loss is not finite.
    """

    step: int = 0
    progress: float = 0.0
    remaining: int = 0
    lr_scale: float = 1.0
    every: int = 1
    elapsed: float = 0.0
    started: float = 0.0
    expected: float = 0.0


@torch.random.fork_rng(devices=[])
def train(
    module: nn.Module,
    step: Step,
    batches: Batches,
    recipe: Recipe,
    *,
    seconds: float,
    name: str = "training",
    decide: Decide = lambda key, compute: compute(),
    checkpoint: Path | None = None,
    on_progress: Callable[[Training, float, float], None] | None = None,
    check_stop: Callable[[], None] = lambda: None,
    max_steps: int | None = None,
    pace_s: float | None = None,
    parts: Sequence[tuple[nn.Module, float]] = (),
) -> nn.Module:
    """Train ``module`` in place for ``seconds`` or ``max_steps`` steps, whichever ends first; leave it with its
    averaged (EMA) weights and return it.

    ``step(images, labels, progress, index)`` runs forward and backward and returns the loss; ``batches(start)`` gives
    the data from step ``start`` on. ``on_progress(state, loss, lr)`` is called each step; ``check_stop`` may raise.
    ``pace_s``: seconds a step on average, where the caller knows; measured otherwise. ``parts``: networks that
    ``module`` consists of, which have no weights in common, and the share of the learning rate each learns at; each
    one's gradient is clipped by itself.
    Raises Diverged when the loss is not finite four times, naming what to check; ``checkpoint`` keeps the last good
    state.
    """
    keep_freed_memory()
    optimiser = _optimiser(module, recipe, parts)
    average = _Average(module)
    state = Training()
    resumed = checkpoint is not None and checkpoint.exists() and _load(checkpoint, module, optimiser, average, state)
    clock, pace = _Clock(), Pace()
    if not math.isinf(seconds):
        known = None if pace_s is None else [(0.0, pace_s)]
        paced = decide(f"{name}.pace", lambda: _measured(clock, module, step, batches, PACE_SHARE * seconds, known))
        pace = Pace(paced["samples"])
    if resumed:
        clock.elapsed = state.elapsed
    else:
        state.remaining = max_steps or sys.maxsize
        if not math.isinf(seconds):
            clock.elapsed = state.started = paced["elapsed"]
            left = (seconds - state.started) / pace.mean(0.0)
            state.remaining = min(max(1, round(left)), state.remaining)
        points = 12 if math.isinf(seconds) else max(12, round(seconds / PLAN_EVERY_S))
        state.every = max(1, state.remaining // points)
    last_good = _snapshot(module, optimiser, average, state)
    stream = batches(state.step)
    module.train()
    while state.remaining > 0:
        if state.step % state.every == 0 and state.step > 0:
            plan = decide(f"{name}.{state.step}", lambda: _replan(clock, state, pace, seconds, max_steps))
            clock.elapsed = state.elapsed = plan["elapsed"]
            state.remaining = plan["remaining"]
            last_good = _snapshot(module, optimiser, average, state)
            if checkpoint is not None:
                _save(checkpoint, last_good)
        check_stop()
        images, labels = next(stream)
        lr = recipe.lr(state.progress) * state.lr_scale
        for group in optimiser.param_groups:
            group["lr"] = lr * group.get("lr_share", 1.0)
        optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(state.step)  # what the network draws by itself (dropout), a resumed training draws too
        loss = step(images, labels, state.progress, state.step)
        separate = [part for part, _ in parts] or [module]
        norms = [nn.utils.clip_grad_norm_(part.parameters(), recipe.clip_norm) for part in separate]
        if not (math.isfinite(loss) and all(bool(torch.isfinite(norm)) for norm in norms)):
            failed = state.step
            _restore(last_good, module, optimiser, average, state)
            if state.lr_scale <= _LOWEST_LR_SCALE:
                raise Diverged(
                    f"{name}: the loss is not finite at step {failed} even at learning rate {lr:.2g}: "
                    "check the images and labels for broken values"
                )
            state.lr_scale *= 0.5
            last_good = _snapshot(module, optimiser, average, state)
            stream = batches(state.step)
            continue
        optimiser.step()
        state.step += 1
        state.expected += pace.at(state.progress)
        state.progress += (1 - state.progress) / state.remaining
        state.remaining -= 1
        average.update(module, recipe, state)
        if on_progress is not None:
            on_progress(state, loss, lr)
    average.copy_to(module)
    return module.eval()


def _optimiser(
    module: nn.Module, recipe: Recipe, parts: Sequence[tuple[nn.Module, float]] = ()
) -> torch.optim.Optimizer:
    """The recipe's optimiser; norms and biases are not decayed (arXiv:1812.01187 §3.1).

    Muon takes the dense convolutions without a bias, which a norm follows; the stem's few input channels make no matrix
    worth orthogonalising, and a depthwise kernel is none.
    """
    named = dict(module.named_parameters())
    rest = [p for p in named.values() if p.dim() <= 1]
    filters = []
    if recipe.optimiser == "muon":
        filters = [
            p
            for n, p in named.items()
            if p.dim() == 4 and p.shape[1] > 3 and n.removesuffix("weight") + "bias" not in named
        ]
    taken = {id(p) for p in filters}
    decayed = [p for p in named.values() if p.dim() > 1 and id(p) not in taken]
    lr, momentum = recipe.peak_lr, recipe.momentum
    if recipe.optimiser == "muon":
        if any(share != 1 for _, share in parts):
            raise ValueError("Muon has one learning rate for all")
        return Muon(
            filters,
            decayed,
            rest,
            lr=lr,
            share=recipe.muon_share,
            momentum=momentum,
            weight_decay=recipe.weight_decay,
        )
    shares = {id(p): share for part, share in parts for p in part.parameters()}
    groups: list[dict[str, Any]] = []
    for parameters, decay in ((decayed, recipe.weight_decay), (rest, 0.0)):
        for share in dict.fromkeys(shares.get(id(p), 1.0) for p in parameters):
            chosen = [p for p in parameters if shares.get(id(p), 1.0) == share]
            groups.append({"params": chosen, "weight_decay": decay, "lr_share": share})
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)


class _Average:
    """Exponential moving average of parameters and buffers, with a half-life that is a share of the training."""

    def __init__(self, module: nn.Module):
        self.tensors = {n: t.detach().clone() for n, t in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, recipe: Recipe, state: Training, every: int = 4) -> None:
        if state.step % every and state.remaining > 0:
            return
        half_life = max(1.0, recipe.ema_half_life * (state.step + state.remaining))
        decay = min(0.5 ** (every / half_life), state.step / (state.step + 10.0)) if recipe.ema_half_life else 0.0
        floats = [(a, t) for (n, t) in module.state_dict().items() if (a := self.tensors[n]).is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [t for _, t in floats], 1 - decay)
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                self.tensors[name].copy_(tensor)

    def copy_to(self, module: nn.Module) -> None:
        module.load_state_dict(self.tensors)


class _Clock:
    """Seconds of work, whatever happened between processes."""

    def __init__(self) -> None:
        self._start, self._before = time.monotonic(), 0.0

    @property
    def elapsed(self) -> float:
        return self._before + time.monotonic() - self._start

    @elapsed.setter
    def elapsed(self, value: float) -> None:
        self._start, self._before = time.monotonic(), value


class Pace:
    """Seconds a step at a progress, from a few samples: a schedule may visit more archs later. Linear in between."""

    def __init__(self, samples: Sequence[tuple[float, float]] = ((0.0, 1.0),)):
        self._at, self._seconds = zip(*sorted(samples), strict=True)

    def at(self, progress: float) -> float:
        return float(np.interp(progress, self._at, self._seconds))

    def mean(self, start: float) -> float:
        """The mean over what is left from ``start`` on."""
        return float(np.mean(np.interp(start + (1 - start) * _GRID, self._at, self._seconds)))


_GRID = (np.arange(64) + 0.5) / 64


def _replan(clock: _Clock, state: Training, pace: Pace, seconds: float, max_steps: int | None) -> dict[str, float]:
    """How many steps still fit: the expected pace of what is left, corrected by how the steps so far kept to it.

    Measuring the pace counts as time, not as training. Rejected: the mean pace so far, which took the second half of
    delayed shrinking to be as cheap as its first, and lost a third of it.
    """
    elapsed = clock.elapsed
    if math.isinf(seconds):
        return {"elapsed": elapsed, "remaining": state.remaining}
    slower = (elapsed - state.started) / state.expected
    fit = max(1, round((seconds - elapsed) / (slower * pace.mean(state.progress))))
    return {"elapsed": elapsed, "remaining": fit if max_steps is None else min(fit, state.remaining)}


def _measured(
    clock: _Clock,
    module: nn.Module,
    step: Step,
    batches: Batches,
    limit_s: float,
    known: list[tuple[float, float]] | None,
) -> dict[str, Any]:
    samples = known or pace_samples(module, step, batches, limit_s=limit_s)
    return {"samples": samples, "elapsed": clock.elapsed}


_PLACES = tuple((place + 0.5) / 6 for place in (3, 0, 5, 1, 4, 2))
"""Progress at which the pace is measured: where only the first few are, they are spread out."""


def pace_samples(
    module: nn.Module, step: Step, batches: Batches, *, limit_s: float, timed: int = len(_PLACES)
) -> list[tuple[float, float]]:
    """(progress, seconds) of single steps, measured on the spot and undone: weights, buffers and gradients are as
    before.

    One step warms up, then up to ``timed`` are timed, fewer when they take longer than ``limit_s``.
    """
    keep_freed_memory()
    before = {n: t.detach().clone() for n, t in module.state_dict().items()}
    module.train()
    stream, begin, taken = batches(0), time.monotonic(), []
    for index, progress in enumerate((_PLACES[0], *_PLACES[:timed])):
        images, labels = next(stream)
        start = time.monotonic()
        step(images, labels, progress, index // 2)  # halved, so that early and late places see odd and even turns
        if index:
            taken.append((progress, max(1e-9, time.monotonic() - start)))
        if index and time.monotonic() - begin > limit_s:
            break
    module.zero_grad(set_to_none=True)
    module.load_state_dict(before)
    return taken


def seconds_a_step(module: nn.Module, step: Step, batches: Batches, *, limit_s: float, timed: int = 6) -> float:
    """Mean seconds a step over the whole of a training: see :func:`pace_samples`."""
    return Pace(pace_samples(module, step, batches, limit_s=limit_s, timed=timed)).mean(0.0)


def _snapshot(
    module: nn.Module, optimiser: torch.optim.Optimizer, average: _Average, state: Training
) -> dict[str, Any]:
    tensors = {f"module/{n}": t.detach().clone() for n, t in module.state_dict().items()}
    tensors |= {f"average/{n}": t.clone() for n, t in average.tensors.items()}
    for index, parameter in enumerate(p for g in optimiser.param_groups for p in g["params"]):
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{index}/{key}"] = value.clone()
    return {"tensors": tensors, "state": Training(**vars(state))}


def _save(path: Path, snapshot: Mapping[str, Any]) -> None:
    metadata = {k: repr(v) for k, v in vars(snapshot["state"]).items()}
    tensors = {n: t.contiguous().cpu() for n, t in snapshot["tensors"].items()}
    write_atomic(path, save(tensors, metadata=metadata))


def _load(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, average: _Average, state: Training) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            held = file.metadata() or {}
            found = Training(**{name: type(value)(held[name]) for name, value in vars(Training()).items()})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _restore({"tensors": tensors, "state": found}, module, optimiser, average, state)
    except Exception as error:  # a damaged file can fail anywhere in the parser
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged or of another network ({reason}): delete it and resume") from error
    return True


def _restore(
    snapshot: Mapping[str, Any], module: nn.Module, optimiser: torch.optim.Optimizer, average: _Average, state: Training
) -> None:
    tensors = snapshot["tensors"]
    module.load_state_dict({n[7:]: t for n, t in tensors.items() if n.startswith("module/")})
    for name, held in average.tensors.items():
        held.copy_(tensors[f"average/{name}"])
    optimiser.state.clear()
    parameters = [p for g in optimiser.param_groups for p in g["params"]]
    for name in tensors:
        part, _, rest = name.partition("/")
        if part == "optimiser":
            index, _, key = rest.partition("/")
            value, parameter = tensors[name].clone(), parameters[int(index)]
            # AdamW counts its steps in a number that stays on the CPU.
            optimiser.state[parameter][key] = value.to(parameter.device) if value.dim() else value
    vars(state).update(vars(snapshot["state"]))
