"""Everything that :mod:`sartor.measure.lint` finds of a model that can be named, as a dict."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sartor.measure.file_of import exported, onnx_file
from sartor.measure.lint.fusing import lint_fusing
from sartor.measure.targets.named import open_target
from sartor.measure.trial import admit


def lint_model(spec: str, *, target: str = "onnxruntime", threads: int = 1) -> dict[str, Any]:
    """What of the model that ``spec`` names sits badly on ``target``, and what measured faster there; JSON-able.

    Keys: ``shapes`` (see :class:`sartor.measure.lint.shapes.Shapes`; None for an .onnx file or a folder with one, whose
    sizes are given: name what makes the network) and ``fusing`` (:class:`sartor.measure.lint.fusing.Fusing`). Raises
    InputError where the model cannot be found, built, traced, exported or run.
    """
    runner = open_target(target, threads)
    file = onnx_file(spec)
    if file is not None:
        admit(file)
        return {"shapes": None, "fusing": lint_fusing(file, runner).to_dict()}
    # Imported late: a bare .onnx file needs no torch.
    from sartor.measure.lint.shapes import lint_shapes
    from sartor.models.zoo import open_model

    opened = open_model(spec)
    module, shape = opened.module, opened.image_shape
    with tempfile.TemporaryDirectory() as folder:
        fusing = lint_fusing(exported(module, shape, Path(folder) / "model.onnx"), runner)
    return {"shapes": lint_shapes(module, shape, runner).to_dict(), "fusing": fusing.to_dict()}
