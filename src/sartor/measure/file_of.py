"""Any model that can be named, as an ONNX file to measure."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sartor.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from sartor.graph.capture import Inputs


@contextlib.contextmanager
def onnx_of(spec: str) -> Iterator[Path]:
    """The file that ``spec`` names (see :func:`onnx_file`), or a draft of the model that it names, which is gone
    afterwards. Raises InputError when the model cannot be found, built or exported."""
    file = onnx_file(spec)
    if file is not None:
        yield file
        return
    from sartor.models.zoo import open_model

    opened = open_model(spec)
    with tempfile.TemporaryDirectory() as folder:
        yield exported(opened.module, opened.image_shape, Path(folder) / "model.onnx")


def exported(module: nn.Module, shape: tuple[int, int, int], file: Path) -> Path:
    """``file``, with ``module`` in it, by the fast exporter where it can. Raises InputError."""
    from sartor.export.onnx import export_draft

    export_draft(module, shape, file)
    return file


def exported_with(module: nn.Module, inputs: Inputs, file: Path) -> Path:
    """``file``, with ``module`` in it for ``inputs`` as they are, each of their sizes fixed. Raises InputError."""
    from sartor.export.onnx import onnx_with, write_onnx

    write_onnx(onnx_with(module, inputs), file)
    return file


def onnx_file(spec: str) -> Path | None:
    """The .onnx file, or that of the model's folder, that ``spec`` names; None where it names neither.

    Raises InputError for a folder without one.
    """
    path = Path(spec)
    if path.is_dir():
        if not (path / "model.onnx").is_file():
            raise InputError(f"{path} holds no model.onnx: give a model directory (RUN/models/NAME) or an .onnx file")
        return path / "model.onnx"
    if path.suffix == ".onnx":
        return path
    return None
