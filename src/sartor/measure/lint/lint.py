"""Everything that :mod:`sartor.measure.lint` finds of a network of images, as a dict."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from sartor.errors import InputError
from sartor.measure.file_of import exported, onnx_file
from sartor.measure.lint.fusing import lint_fusing
from sartor.measure.targets.named import open_target
from sartor.measure.trial import admit


def lint_model(
    model: str | nn.Module,
    shape: tuple[int, int, int] | None = None,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
) -> dict[str, Any]:
    """What of ``model`` sits badly on ``target``, and what measured faster there; JSON-able.

    ``model`` is a name or a file, or a module that takes images of ``shape`` (channels, height, width).

    Keys: ``shapes`` (see :class:`sartor.measure.lint.shapes.Shapes`; None for an .onnx file or a folder with one, whose
    sizes are given: name what makes the network) and ``fusing`` (:class:`sartor.measure.lint.fusing.Fusing`). Raises
    InputError where the model cannot be found, built, traced, exported or run.
    """
    runner = open_target(target, threads)
    if isinstance(model, str) and (file := onnx_file(model)) is not None:
        admit(file)
        return {"shapes": None, "fusing": lint_fusing(file, runner).to_dict()}
    # Imported late: an .onnx file needs no models.
    from sartor.measure.lint.shapes import lint_shapes
    from sartor.models.zoo import open_model

    if isinstance(model, str):
        opened = open_model(model)
        module, shape = opened.module, opened.image_shape
    else:
        module = model
    if shape is None:
        raise InputError("what is linted takes images: give their shape")
    with tempfile.TemporaryDirectory() as folder:
        fusing = lint_fusing(exported(module, shape, Path(folder) / "model.onnx"), runner)
    return {"shapes": lint_shapes(module, shape, runner).to_dict(), "fusing": fusing.to_dict()}
