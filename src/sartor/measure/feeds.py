"""What a file is fed while it is timed: random numbers of its inputs' shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from sartor.errors import InputError
from sartor.measure.untrusted import read


def random_feeds(file: Path, batch: int = 1) -> dict[str, np.ndarray]:
    """A random array for each input of ``file``; integers and booleans are zero, which is an index everywhere.

    An open first axis is the batch. Raises InputError for a file that is none, and for an input with another open size.
    """
    rng = np.random.default_rng(0)
    return {name: _filled(shape, dtype, rng) for name, shape, dtype in inputs(file, batch)}


def inputs(file: Path, batch: int = 1) -> Iterator[tuple[str, tuple[int, ...], np.dtype]]:
    """Name, shape and type of each input of ``file``. Raises InputError as :func:`random_feeds` does."""
    graph = read(file).graph
    stored = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in stored:
            continue
        if not value.type.HasField("tensor_type"):
            raise InputError(f"{file}: input {value.name} is no tensor, so it cannot be filled with numbers")
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value if d.HasField("dim_value") else batch if axis == 0 else 0 for axis, d in enumerate(dims)]
        if 0 in shape:
            open_sizes = [d.dim_param or d.dim_value for d in dims]
            raise InputError(
                f"{file}: input {value.name} is {open_sizes}: export it with every size but the batch fixed"
            )
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        except KeyError:
            dtype = np.dtype(object)
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise InputError(f"{file}: input {value.name} has type {dtype}, which cannot be filled with numbers")
        yield value.name, tuple(shape), dtype


def _filled(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)
