"""One source in a process of its own: ``python -m sartor.recipes.mixers.job``.

A line of JSON comes in, one goes out: what was measured, or why it was refused.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sartor.data.text import characters, windows_of
from sartor.errors import InputError, SartorError
from sartor.machine import end_with_parent
from sartor.models.mixing import Around, MixingModel
from sartor.recipes.mixers.checks import Growth, check, growth
from sartor.recipes.mixers.guard import bounded, closed
from sartor.train.language import train_language, understood

PARTS = {"validation": (8, 9), "test": (9, 10)}
"""Tenths of the text that are measured on; the first eight are learnt from."""
SAID = (25, 50, 75, 100)
"""Per cent of the training at which its loss is told."""


def main() -> None:
    """Do the job that stdin tells, and say what came of it."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the source prints is not the answer
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    end_with_parent()
    if os.getppid() != job["parent"]:  # it ended before it could take this process along
        return
    torch.set_num_threads(job["threads"])
    try:
        text, words = characters(Path(job["text"]))
        tokens = torch.from_numpy(text)
        _load(tokens)
        bounded(memory_bytes=job["memory_bytes"], cpu_s=job["cpu_s"])
        closed()
        result = measured(job, tokens, words)
    except SartorError as error:
        result = {"refused": str(error)}
    except (MemoryError, RuntimeError) as error:  # torch's own of memory is a RuntimeError
        result = {"refused": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    except RecursionError:
        result = {"refused": "it calls itself without end"}
    answer.write(json.dumps(result, allow_nan=False) + "\n")
    answer.flush()


def _load(tokens: Tensor) -> None:
    """What torch loads when it is first used is loaded while there still are files."""
    growth(nn.Linear(8, 8), 8, 2.0)
    train_language(
        MixingModel(int(tokens.max()) + 1, width=8, depth=1, block=lambda width: nn.Linear(width, width)),
        tokens,
        context=4,
        steps=1,
        rows=1,
    )


def measured(job: dict[str, Any], tokens: Tensor, words: int) -> dict[str, Any]:
    """Make, check, train and measure. Raises InputError and Diverged with the reason for a refusal."""
    width, depth, context = job["width"], job["depth"], job["context"]
    part = maker(job["source"])
    torch.manual_seed(job["seed"])
    check(made(part, width), width)
    grown = growth(made(part, width), width, job["growth"])
    torch.manual_seed(job["seed"])
    model = MixingModel(words, width=width, depth=depth, block=lambda width: layer(made(part, width), width))
    params = sum(parameter.numel() for parameter in model.parameters())
    if job["most_params"] is not None and params > job["most_params"]:
        raise InputError(f"the model has {params:,} parameters with it: {job['most_params']:,} are the most")
    tenth = len(tokens) / 10
    first, last = (round(edge * tenth) for edge in PARTS[job["split"]])
    losses = train_language(
        model, tokens[: round(8 * tenth)], context=context, steps=job["steps"], rows=job["rows"], lr=job["lr"]
    )
    seen = torch.from_numpy(windows_of(tokens[first:last].numpy(), context, job["windows"]))
    found = understood(model, seen)
    if not math.isfinite(found.loss):
        raise InputError(f"its loss on other text is {found.loss}")
    for trained in model.blocks:
        check(trained.mixer if isinstance(trained, Around) else trained, width, trained=True)
    curve = {f"train_loss_{cent}": losses[max(0, len(losses) * cent // 100 - 1)] for cent in SAID}
    return {"metrics": {**found._asdict(), "params": params, **vars_of(grown), **curve}}


def vars_of(grown: Growth) -> dict[str, float]:
    """By the names of metrics."""
    return {"work_power": grown.work, "traffic_power": grown.traffic, "macs_per_token": grown.macs_per_token}


def maker(source: str) -> type[nn.Module]:
    """Run ``source``: its class ``Mixer``, or else ``Block``. Raises InputError where it raises, or has neither."""
    module = ModuleType("proposed")
    sys.modules["proposed"] = module  # dataclasses look their module up
    try:
        exec(compile(source, "proposed.py", "exec"), vars(module))
    except Exception as error:
        raise InputError(_one_line("it cannot be run", error)) from error
    for name in ("Mixer", "Block"):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
    raise InputError("it has no class Mixer or Block that is a torch.nn.Module")


def made(part: type[nn.Module], width: int) -> nn.Module:
    """One of ``part``. Raises InputError where it raises."""
    try:
        return part(width)
    except Exception as error:
        raise InputError(_one_line(f"a width of {width} cannot be made", error)) from error


def layer(part: nn.Module, width: int) -> nn.Module:
    """A layer of it: what is a block already stays."""
    return part if type(part).__name__ == "Block" else Around(part, width)


def _one_line(what: str, error: Exception) -> str:
    return " ".join(f"{what}: {type(error).__name__}: {error}".split())[:500]


if __name__ == "__main__":
    main()
