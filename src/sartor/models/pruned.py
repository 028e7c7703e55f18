"""A pruned network on disk: which model it was, which entries of which groups were kept, its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sartor.errors import InputError
from sartor.graph import Cut, trace
from sartor.models.head import with_head
from sartor.models.weights import load_weights

FILE, WEIGHTS = "cut.json", "model.safetensors"
FORMAT = 2


@dataclass(frozen=True)
class Lineage:
    """What a network was made from: the ``model`` it began as, its ``classes`` where its last layer was replaced, and
    its ``cuts``, one after the other. ``mean``, ``std``: how its images are normalised, where they were."""

    model: str
    classes: int | None = None
    cuts: tuple[Cut, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def lineage(spec: str) -> Lineage:
    """That of the model ``spec``: its own where it is a pruned one's folder; a file's path is made absolute."""
    if (Path(spec) / FILE).is_file():
        return _read(Path(spec))
    return Lineage(absolute(spec))


def absolute(spec: str) -> str:
    """``spec`` with the path of its file or folder, where it has one, made absolute."""
    source, colon, function = spec.rpartition(":")
    if colon and source.endswith(".py"):
        return f"{Path(source).resolve()}:{function}"
    return str(Path(spec).resolve()) if Path(spec).is_dir() else spec


def _read(folder: Path) -> Lineage:
    file = folder / FILE
    try:
        held = json.loads(file.read_text())
        if held.pop("format") != FORMAT:
            raise InputError(f"{file} is of another format than this Sartor reads ({FORMAT})")
        kept = [{str(n): tuple(map(int, entries)) for n, entries in cut["keep"].items()} for cut in held["cuts"]]
        gone = [tuple(map(str, cut["without"])) for cut in held.pop("cuts")]
        cuts = tuple(map(Cut, kept, gone))
        mean, std = (None if v is None else tuple(map(float, v)) for v in (held.pop("mean"), held.pop("std")))
        return Lineage(cuts=cuts, mean=mean, std=std, **held)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{file} is damaged ({type(error).__name__}: {error})") from error


def open_pruned(folder: Path, open_model: Callable[[str], Any]) -> Any:
    """The network in ``folder`` with its weights, made again from its model: ``open_model``'s, cut as it was cut.

    Raises InputError where a file of it, or of its model, is missing or damaged.
    """
    made = _read(folder)
    if (Path(made.model) / FILE).is_file():
        raise InputError(f"{folder / FILE} is damaged: its model {made.model} is itself a pruned one")
    whole = open_model(made.model)
    module = whole.module.eval()
    if made.classes is not None:
        with_head(module, _example(whole), made.classes)
    for cut in made.cuts:
        module = trace(module, whole.inputs).slice(cut)
    load_weights(module, folder / WEIGHTS)
    return type(whole)(module.eval(), whole.inputs, made.mean or whole.mean, made.std or whole.std)


def _example(opened: Any) -> torch.Tensor:
    return torch.zeros(2, *opened.image_shape)


def further(made: Lineage, *cuts: Cut) -> Lineage:
    """``made`` after more cuts."""
    return replace(made, cuts=(*made.cuts, *cuts))
