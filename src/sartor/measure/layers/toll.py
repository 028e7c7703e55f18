"""What it costs to be watched: the time that ONNX Runtime's profile adds to each kernel.

The runtime writes down sizes and shapes of what a kernel reads and writes before it stops the kernel's clock: a few
microseconds, more for more tensors, which in a network of small kernels would be a half of its time. What it adds is
measured with two files that do almost nothing: by how much longer their kernels take than the same file unwatched.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sartor.measure.targets.onnxruntime import OnnxRuntime

KERNELS, CALLS = 100, 60
MANY = 9
"""Tensors that a kernel of the second file reads, as one of 8 bits does."""
CUT_S = 0.5e-6
"""The profile leaves out what is less than a microsecond: on average a half of one."""
_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Toll:
    """Seconds: for any kernel, and for each tensor that it reads or writes."""

    kernel_s: float
    tensor_s: float

    def __call__(self, tensors: int) -> float:
        return self.kernel_s + self.tensor_s * tensors


def toll(target: OnnxRuntime) -> Toll:
    """With the threads of ``target``. The caller has pinned the process."""
    few, many = _added(2, target), _added(1 + MANY, target)
    tensor_s = max(0.0, (many - few) / (MANY - 1))
    return Toll(max(0.0, few - 2 * tensor_s), tensor_s)


def kernel_events(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a profile: kernels in the order of running, without those that ran inside of another one, in the body of a
    loop, which are a part of that one's time."""
    calls = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_KERNEL)]
    found, end = [], -1.0
    for event in sorted(calls, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] + event["dur"] <= end and event["ts"] < end:
            continue
        end = event["ts"] + event["dur"]
        found.append(event)
    return found


def kernel_name(event: Mapping[str, Any]) -> str:
    return str(event["name"]).removesuffix(_KERNEL)


def _added(tensors: int, target: OnnxRuntime) -> float:
    """Seconds that watching adds to each kernel of a chain of them, of so many tensors each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chain.onnx"
        onnx.save(_chain(tensors), file)
        plain, watched = target.session(file), target.session(file, profile=Path(folder) / "profile")
        feeds = {"x": np.zeros(1, np.float32)}
        seconds = []
        for _ in range(CALLS):  # in turns: whatever else the machine does is done to both
            watched.run(None, feeds)
            plain.run(None, feeds)
            begin = time.perf_counter()
            plain.run(None, feeds)
            seconds.append(time.perf_counter() - begin)
        events = kernel_events(json.loads(Path(watched.end_profiling()).read_text()))
    times = np.array([event["dur"] / 1e6 + CUT_S for event in events]).reshape(CALLS, -1)
    return float(np.median(times.mean(axis=1)) - np.median(seconds) / times.shape[1])


def _chain(tensors: int) -> onnx.ModelProto:
    """Maxima of what comes and of constants: nothing that would be fused or left out."""
    held = [f"c{i}" for i in range(tensors - 2)]
    names = ["x", *(f"t{i}" for i in range(KERNELS - 1)), "y"]
    op = "Max" if held else "Abs"
    nodes = [helper.make_node(op, [a, *held], [b]) for a, b in pairwise(names)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.zeros(1, np.float32), name) for name in held],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
