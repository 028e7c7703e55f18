"""Peak memory for activations of an exported file, batch 1.

The file is first optimised by ONNX Runtime as a session on this CPU does it (batch norm, activations, residual
additions and QDQ pairs fused, blocked layouts with their padding), because that is what runs. Every tensor then has
its real type: one byte a value where a quantised kernel writes it. Rejected: the CPU-independent optimisations alone,
which leave residual additions unfused and count a third buffer that is never there.

What is counted: all activations alive while a node runs, its inputs and outputs included, and the file's own input and
output. A view (reshape, flatten) takes nothing; an elementwise node overwrites an input that dies with it, as the
runtimes do. Not counted: weights, and scratch space of kernels, which differs between runtimes.

``peak_activation_bytes`` is of the order in which ONNX Runtime runs the file, because that is what a budget promises;
:func:`sartor.measure.plan.onnx_file.plan_file` searches for a better order and gives every buffer its address.
"""

from __future__ import annotations

from pathlib import Path

from sartor.measure.plan.onnx_file import problem_of
from sartor.measure.plan.steps import peak
from sartor.measure.runnable import optimised


def peak_activation_bytes(file: Path) -> int:
    """The most bytes of activations alive at once in ``file`` as ONNX Runtime orders it. Raises InputError when the
    file cannot be run."""
    return peak(problem_of(optimised(file), file))
