"""What is measured: a model by name, a file, or a module with its inputs, as a file with its counts."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import Inputs, arguments
from sartor.measure.counts import Counts, counts_of
from sartor.measure.feeds import inputs as inputs_of
from sartor.measure.file_of import exported, exported_with, onnx_file
from sartor.measure.graph_counts import graph_counts
from sartor.measure.trial import admit


@dataclass(frozen=True)
class Subject:
    """What is measured: its name, the file that is timed, what was counted of it, and how many examples a call has."""

    name: str
    file: Path
    counted: Counts
    batch: int


@contextlib.contextmanager
def subject(model: str | Path | nn.Module, inputs: Inputs | None, batch: int | None) -> Iterator[Subject]:
    """A module's file is gone afterwards."""
    if not isinstance(model, (str, Path, nn.Module)):
        raise InputError(f"a model is its name, a file or an nn.Module, not {type(model).__name__}")
    file = None if isinstance(model, nn.Module) else onnx_file(str(model))
    if file is not None:
        if inputs is not None:
            raise InputError(f"{file} has inputs of its own: leave out the example")
        admit(file)  # what is counted below is counted by running it
        if (batch or 1) > 1 and list(inputs_of(file, 1)) == list(inputs_of(file, 2)):
            raise InputError(f"{file} fixes how many examples a call has: leave out the batch, or export it with any")
        yield Subject(str(model), file, graph_counts(file), batch or 1)
        return
    name, module, example = opened(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        images = images_of(module, example)
        if images is None:
            if (batch or 1) > 1:
                raise InputError(
                    f"{name} is timed with inputs of the example's own sizes: leave out the batch, "
                    f"or give an example of {batch} rows"
                )
            counted = counts_of(module, example)  # first: it says best why a module does not take an example
            yield Subject(name, exported_with(module, example, file), counted, 1)
            return
        rows = batch or len(images)
        counted = counts_of(module, images[:1], f"images of {tuple(images.shape[1:])}")
        yield Subject(name, _image_file(module, images, rows, file), counted, rows)


def opened(model: str | Path | nn.Module, inputs: Inputs | None) -> tuple[str, nn.Module, Inputs]:
    """Name, module and example. Raises InputError for a module without one, and a name that is none."""
    if isinstance(model, nn.Module):
        if inputs is None:
            raise InputError(f"what {type(model).__name__} is called with must be told: give example inputs")
        return type(model).__name__, model, inputs
    # Imported late: a bare .onnx file needs no models.
    from sartor.models.zoo import open_model

    with torch.random.fork_rng(devices=[]):  # the same numbers for the same model each time, and nobody else's draws
        torch.manual_seed(0)
        found = open_model(str(model))
    return str(model), found.module, found.inputs if inputs is None else inputs


def images_of(module: nn.Module, example: Inputs) -> torch.Tensor | None:
    """The images, where ``example`` is one batch of them, for the first argument of ``module``, and nothing else.

    Raises InputError for an empty example.
    """
    args, kwargs = arguments(example)
    values = (*args, *kwargs.values())
    if any(isinstance(value, torch.Tensor) and not value.numel() for value in values):
        raise InputError("an example input is empty: give one of the sizes that the model is called with")
    first = values[0] if len(values) == 1 else None
    if kwargs and next(iter(kwargs)) != next(iter(inspect.signature(module.forward).parameters), None):
        return None  # exported by its name
    images = isinstance(first, torch.Tensor) and first.dim() == 4 and first.dtype == torch.float32
    return first if images else None


def _image_file(module: nn.Module, images: torch.Tensor, rows: int, file: Path) -> Path:
    """With any batch; where a network returns more than one tensor, or takes one image only, with that."""
    channels, height, width = images.shape[1:]
    try:
        return exported(module, (channels, height, width), file)
    except InputError:
        if rows > 1:
            raise
        return exported_with(module, images[:1], file)
