"""An exported file read, optimised as the runtime does it, and run once for its tensors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from sartor.errors import InputError


def load(file: Path) -> onnx.ModelProto:
    """Read an ONNX file. Raises InputError when it is missing or damaged."""
    if not file.is_file():
        raise InputError(f"{file} is missing")
    try:
        proto = onnx.load(str(file))
        if not proto.graph.node:
            raise ValueError("it holds no nodes")
        return proto
    except Exception as error:  # protobuf's own exceptions, or a missing external data file
        raise InputError(f"{file} is no ONNX file ({(str(error) or repr(error)).splitlines()[0][:200]})") from error


def optimised(file: Path, *, layouts: bool = True) -> onnx.ModelProto:
    """``file`` as ONNX Runtime runs it on this CPU, all optimisations applied; or without ``layouts`` only those that
    do not change how tensors lie in memory, which is any machine's affair. Raises InputError."""
    if not file.is_file():
        raise InputError(f"{file} is missing")
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if layouts else levels.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        try:
            ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
        except Exception as error:  # ORT raises its own untyped exceptions
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{file} is no ONNX file that ONNX Runtime can run ({reason})") from error


def tensors(proto: onnx.ModelProto, file: Path) -> dict[str, np.ndarray]:
    """Every computed tensor of ``proto`` on zeros of batch 1, by running it: right for operators of any domain.

    ``file`` names it in errors. Raises InputError where it does not run.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    fed = {value.name: _zeros(value, file) for value in proto.graph.input}
    there = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return {**fed, **dict(zip(names, session.run(names, fed), strict=True))}
    except Exception as error:  # ORT raises its own untyped exceptions
        raise InputError(f"{file} does not run: {(str(error).strip() or repr(error)).splitlines()[0][:200]}") from error


def _zeros(value: onnx.ValueInfoProto, file: Path) -> np.ndarray:
    dims = value.type.tensor_type.shape.dim
    shape = [d.dim_value if d.HasField("dim_value") else 1 if axis == 0 else 0 for axis, d in enumerate(dims)]
    if 0 in shape:
        raise InputError(f"{file}: input {value.name} has open sizes: export it with every size but the batch fixed")
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
