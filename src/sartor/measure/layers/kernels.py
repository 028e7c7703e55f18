"""The kernels that ONNX Runtime runs for a file, in place, with the tensors of the file that each of them makes.

The runtime's own profile times every kernel inside of the whole network, with the caches as they are there; what
watching adds is taken off (``toll``).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sartor.errors import InputError
from sartor.measure.feeds import random_feeds
from sartor.measure.layers.node import Node
from sartor.measure.layers.toll import CUT_S, Toll, kernel_events, kernel_name, toll
from sartor.measure.runnable import load
from sartor.measure.targets.local import reason
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.timing import pinned
from sartor.measure.units.split import FOLLOWERS

RUNS, WARMUP = 30, 5
_Kernel = tuple[str, str, str]
"""Name, operator, number."""
_BLOCKED = "com.microsoft.nchwc"
"""The runtime's own layout: channels in blocks."""
_LAYOUT = "_nchwc"
"""With it ends the name of a kernel in that layout; before it stands the tensor that it makes."""
_BLOCKED_NORM = "_bn"
"""Comes before ``_LAYOUT`` where a batch norm runs as a convolution."""
_AGAIN = re.compile(r"_token_\d+$")
"""What the runtime writes behind a name that it takes for another node."""
_ON_8_BITS = "QLinear"


def kernels(file: Path, target: OnnxRuntime, *, runs: int = RUNS) -> tuple[Node, ...]:
    """The kernels of ``file`` at batch 1 in running order, each with its median time. Raises InputError."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "optimised.onnx"
        with pinned(target.threads):
            added = toll(target)
            session = target.session(file, profile=Path(folder) / "profile", optimised=kept)
            feeds = random_feeds(file)
            try:
                for _ in range(WARMUP + runs):
                    session.run(None, feeds)
            except Exception as error:  # ORT raises its own untyped exceptions
                raise InputError(f"{file} fails on batch-1 input: {reason(error)}") from error
            times = _times(json.loads(Path(session.end_profiling()).read_text()), added)
        optimised = onnx.load(str(kept))
    made = _made(optimised, load(file))
    tensors = [made.get(ran.output[0], ()) if ran else () for ran in _ran(optimised, times)]
    return tuple(
        Node(name, op, float(np.median(seconds[WARMUP:] or seconds)) * 1e3, tuple(makes))
        for ((name, op, _), seconds), makes in zip(times.items(), tensors, strict=True)
    )


def _ran(optimised: onnx.ModelProto, kernels: Collection[_Kernel]) -> list[onnx.NodeProto | None]:
    """The node of each kernel: the file that runs has its nodes in the order of running. Where another order was taken,
    by name, which not every node has."""
    nodes = list(optimised.graph.node)
    if [node.op_type for node in nodes] == [op for _, op, _ in kernels]:
        return [*nodes]
    there: dict[str, deque[onnx.NodeProto]] = defaultdict(deque)
    for node in nodes:
        there[node.name].append(node)
    return [there[name].popleft() if there[name] else None for name, _, _ in kernels]


def _made(optimised: onnx.ModelProto, original: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """The first output of each kernel → the tensors of the file that it makes.

    Of one that makes none by any name: where it works on single entries, those of what it works on, as units have it;
    else those of what reads it, since it moves numbers to where that one needs them.
    """
    nodes = {node.name: node for node in original.graph.node if node.name}
    tensors = {name for node in original.graph.node for name in node.output if name}
    found: dict[str, tuple[str, ...]] = {}
    home: dict[str, str] = {}  # any output → the first one of its kernel
    for node in optimised.graph.node:
        made = _named(node, nodes, tensors)
        before = next((home[name] for name in node.input if name in home), None)
        if not made and before is not None and node.op_type.removeprefix(_ON_8_BITS) in FOLLOWERS:
            made = found[before]
        found[node.output[0]] = made
        home |= dict.fromkeys(node.output, node.output[0])
    readers: dict[str, str] = {}
    for node in reversed(optimised.graph.node):
        if not found[node.output[0]]:
            found[node.output[0]] = next((found[readers[name]] for name in node.output if name in readers), ())
        readers |= dict.fromkeys(node.input, node.output[0])
    return found


def _named(kernel: onnx.NodeProto, nodes: Mapping[str, onnx.NodeProto], tensors: set[str]) -> tuple[str, ...]:
    """By its own outputs; by its name, where the layout is the runtime's own; by the node it was made of."""
    if known := tuple(name for name in kernel.output if name in tensors):
        return known
    plain = _AGAIN.sub("", kernel.name).removesuffix(_LAYOUT)
    for name in (plain, plain.removesuffix(_BLOCKED_NORM)):
        if name in nodes:
            return tuple(made for made in nodes[name].output if made)
        if name in tensors and kernel.domain == _BLOCKED:
            return (name,)
    return ()


def _times(events: Iterable[Mapping[str, Any]], added: Toll) -> dict[_Kernel, list[float]]:
    """Seconds of each call of each kernel, in the order of the first ones."""
    found: dict[_Kernel, list[float]] = defaultdict(list)
    for event in kernel_events(events):
        arguments = event["args"]
        tensors = sum(len(arguments.get(part, ())) for part in ("input_type_shape", "output_type_shape"))
        seconds = event["dur"] / 1e6 + CUT_S - added(tensors)
        found[kernel_name(event), arguments["op_name"], arguments["node_index"]].append(max(seconds, CUT_S))
    return found
