"""A file's memory plan as a JSON-able dict: who holds which bytes, from which step to which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sartor.measure.plan.onnx_file import computing_nodes, problem_of
from sartor.measure.plan.plan import make_plan
from sartor.measure.runnable import optimised


def buffers_of(file: Path) -> dict[str, Any]:
    """The plan of :func:`sartor.measure.plan.onnx_file.plan_file`, for people to look at.

    ``arena_bytes``, ``peak_bytes``, ``exact`` as of a ``Plan``; ``steps``: operators with their first result, in the
    planned order; ``buffers``: name, offset, bytes, and the numbers of the ``first`` step that holds it (-1: it is the
    input) and of the ``last``. Raises InputError when the file cannot be run.
    """
    proto = optimised(file)
    plan = make_plan(problem_of(proto, file))
    nodes = computing_nodes(proto)
    return {
        "arena_bytes": plan.arena_bytes,
        "peak_bytes": plan.peak_bytes,
        "exact": plan.exact,
        "steps": [f"{nodes[number].op_type} {nodes[number].output[0]}" for number in plan.order],
        "buffers": [
            {"name": b.name, "offset": b.offset, "bytes": b.size, "first": b.first, "last": b.last}
            for b in plan.buffers
        ],
    }
