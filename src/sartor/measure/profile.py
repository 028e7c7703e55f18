"""Where the time of an exported file goes, node by node, and what bounds each node.

A node is bound by arithmetic or by memory traffic, whichever would take longer at this machine's best rates, and by
overhead when it takes more than four times what the two would explain: a roofline (Williams et al., CACM 52(4), 2009)
with a third case for nodes too small to reach either roof.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from sartor.errors import InputError
from sartor.measure.graph_counts import node_macs, shapes
from sartor.measure.runnable import optimised, tensors
from sartor.measure.timing import pinned

_OVERHEAD = 4.0
_SIDE = 384


@dataclass(frozen=True)
class Node:
    """One node as the runtime runs it, channel padding included. ``share``: of the nodes' total time."""

    name: str
    op: str
    latency_ms: float
    share: float
    macs: int
    gmacs_per_s: float
    bound: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def profile(file: Path, *, threads: int = 1, runs: int = 30) -> tuple[Node, ...]:
    """The nodes of ``file`` in running order, each with its median time over ``runs`` batch-1 calls.

    Profiling adds about a microsecond a node: the sum is not the latency. Raises InputError.
    """
    proto = optimised(file)
    values = tensors(proto, file)
    known = shapes(proto, values)
    with pinned(threads):
        times = _times(file, {v.name: values[v.name] for v in proto.graph.input}, threads, runs)
        peak, bandwidth = _multiply_rate(threads), _copy_rate()
    total = sum(times.values()) or 1.0
    nodes = []
    for node in proto.graph.node:
        seconds = times.get(node.name)
        if seconds is None:
            continue
        macs = node_macs(node, known)
        least = macs / peak, _traffic(node, proto, values) / bandwidth
        bound = "overhead" if seconds > _OVERHEAD * max(least) else "compute" if least[0] >= least[1] else "memory"
        rate = macs / seconds / 1e9 if seconds else 0.0
        nodes.append(Node(node.name, node.op_type, seconds * 1e3, seconds / total, macs, rate, bound))
    return tuple(nodes)


def _times(file: Path, feeds: dict[str, np.ndarray], threads: int, runs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        try:
            for _ in range(runs + 5):
                session.run(None, feeds)
        except Exception as error:  # ORT raises its own untyped exceptions
            raise InputError(f"{file} fails on batch-1 input: {str(error).strip().splitlines()[0]}") from error
        events = json.loads(Path(session.end_profiling()).read_text())
    samples: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            samples[event["name"].removesuffix("_kernel_time")].append(event["dur"] / 1e6)
    return {name: float(np.median(seconds[5:] or seconds)) for name, seconds in samples.items()}


def _traffic(node: onnx.NodeProto, proto: onnx.ModelProto, values: dict[str, np.ndarray]) -> int:
    """Bytes a node reads and writes when nothing is cached."""
    stored = {t.name: t for t in proto.graph.initializer if t.name in node.input}
    weights = sum(
        int(np.prod(t.dims)) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in stored.values()
    )
    return weights + sum(int(values[n].nbytes) for n in (*node.input, *node.output) if n in values)


def _multiply_rate(threads: int) -> float:
    """MACs a second that the runtime reaches on a square matrix product in fp32, its best case."""
    shape = [_SIDE, _SIDE]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])],
        "roof",
        [value("a", onnx.TensorProto.FLOAT, shape), value("b", onnx.TensorProto.FLOAT, shape)],
        [value("c", onnx.TensorProto.FLOAT, shape)],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ones = np.ones(shape, np.float32)
    return _SIDE**3 / _fastest(lambda: session.run(None, {"a": ones, "b": ones}))


def _copy_rate() -> float:
    """Bytes a second of one thread's copy, read and write counted, out of a buffer larger than a core's own caches."""
    source = np.ones(4 * 2**20, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: np.copyto(target, source))


def _fastest(call: Any) -> float:
    """A roof is a best case, so here the minimum is right."""
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return float(best)
