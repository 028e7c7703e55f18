"""Peak memory for activations of an exported file, batch 1, in the runtime that will run it.

The file is first optimised by ONNX Runtime as a session on this CPU does it (batch norm, activations, residual
additions and QDQ pairs fused, blocked layouts with their padding), because that is what runs. Every tensor then has
its real type: one byte a value where a quantised kernel writes it. Rejected: the CPU-independent optimisations alone,
which leave residual additions unfused and count a third buffer that is never there.

Its nodes are taken in the order in which ONNX Runtime runs them, and its buffers are those that ONNX Runtime's planner
takes (:mod:`sartor.measure.plan.runtime`), because that is what a budget promises: what is held while a node runs, its
inputs and outputs included, and the file's own input and output. A view (reshape, flatten) takes nothing. Not counted:
weights, and scratch space of kernels. What a better order and placement would need is
:func:`sartor.measure.plan.onnx_file.plan_file`'s answer.
"""

from __future__ import annotations

from pathlib import Path

from sartor.measure.plan.onnx_file import runtime_plan
from sartor.measure.plan.steps import most_at_once
from sartor.measure.runnable import optimised


def peak_activation_bytes(file: Path) -> int:
    """The most bytes of activations that ONNX Runtime holds at once. Raises InputError when the file cannot be run."""
    return most_at_once(runtime_plan(optimised(file), file))
