"""The kernels that ONNX Runtime runs for a file, in place, with the tensors of the file that each of them makes.

The runtime's own profile times every kernel inside of the whole network, with the caches as they are there. Writing the
profile down takes it some microseconds a kernel, which are outside of the kernels' times.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sartor.errors import InputError
from sartor.measure.feeds import random_feeds
from sartor.measure.layers.node import Node
from sartor.measure.runnable import load
from sartor.measure.targets.local import reason
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.timing import pinned

RUNS, WARMUP = 30, 5
_LAYOUT = "_nchwc"
"""With it ends the name of a kernel in the runtime's own layout; before it stands the tensor that it makes."""
_BLOCKED_NORM = "_bn"
"""Comes before ``_LAYOUT`` where a batch norm runs as a convolution."""
_KERNEL = "_kernel_time"
_CUT = 0.5
"""The profile leaves out what is less than a microsecond: on average a half of one."""


def kernels(file: Path, target: OnnxRuntime, *, runs: int = RUNS) -> tuple[Node, ...]:
    """The kernels of ``file`` at batch 1 in running order, each with its median time. Raises InputError."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "optimised.onnx"
        with pinned(target.threads):
            session = target.session(file, profile=Path(folder) / "profile", optimised=kept)
            feeds = random_feeds(file)
            try:
                for _ in range(WARMUP + runs):
                    session.run(None, feeds)
            except Exception as error:  # ORT raises its own untyped exceptions
                raise InputError(f"{file} fails on batch-1 input: {reason(error)}") from error
            events = json.loads(Path(session.end_profiling()).read_text())
        optimised = onnx.load(str(kept))
    made = _made(optimised, load(file))
    there: dict[str, deque[onnx.NodeProto]] = defaultdict(deque)
    for node in optimised.graph.node:
        there[node.name].append(node)
    found = []
    for (name, op, _), times in _times(events).items():
        ran = there[name].popleft() if there[name] else None
        tensors = made.get(ran.output[0], ()) if ran is not None else ()
        found.append(Node(name, op, float(np.median(times[WARMUP:] or times)) * 1e3, tensors))
    return tuple(found)


def _made(optimised: onnx.ModelProto, original: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """The first output of each kernel → the tensors of the file that it makes, or that what reads it makes."""
    nodes = {node.name: node for node in original.graph.node if node.name}
    tensors = {name for node in original.graph.node for name in node.output if name}
    found: dict[str, tuple[str, ...]] = {}
    readers: dict[str, str] = {}
    for node in reversed(optimised.graph.node):
        made = _named(node, nodes, tensors)
        if not made:
            made = next((found[readers[name]] for name in node.output if name in readers), ())
        found[node.output[0]] = made
        readers |= dict.fromkeys(filter(None, node.input), node.output[0])
    return found


def _named(kernel: onnx.NodeProto, nodes: Mapping[str, onnx.NodeProto], tensors: set[str]) -> tuple[str, ...]:
    """By its own outputs; by its name, where the layout is the runtime's own; by the node it was made of."""
    if known := tuple(name for name in kernel.output if name in tensors):
        return known
    plain = kernel.name.removesuffix(_LAYOUT)
    if plain != kernel.name:
        for name in (plain, plain.removesuffix(_BLOCKED_NORM)):
            if name in tensors:
                return (name,)
    node = nodes.get(kernel.name)
    return () if node is None else tuple(name for name in node.output if name in tensors)


def _times(events: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], list[float]]:
    """Seconds of each call of each kernel, in the order of the first ones.

    A kernel that ran inside of another one, in the body of a loop, is a part of that one's time.
    """
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    calls = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_KERNEL)]
    end = -1.0
    for event in sorted(calls, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] + event["dur"] <= end and event["ts"] < end:
            continue
        end = event["ts"] + event["dur"]
        arguments = event["args"]
        key = event["name"].removesuffix(_KERNEL), arguments["op_name"], arguments["node_index"]
        found[key].append((event["dur"] + _CUT) / 1e6)
    return found
