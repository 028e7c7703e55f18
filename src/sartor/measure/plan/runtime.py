"""The buffers that ONNX Runtime itself takes, at one thread: its static planner, step by step.

After ``PlannerImpl::ComputeSingleStreamReusePlan`` in ONNX Runtime's ``core/framework/allocation_planner.cc``. An
output takes, in this order: the input it is a view of; an input it may overwrite that dies here and has its shape;
the buffer of its shape that was freed last; new memory. The third is no gift: a buffer that will be taken again is
held from its first tensor to its last, also in between, so a network can need far more than what is alive at once.
Outputs of the network get memory of their own. Shapes are compared as the runtime knows them before it runs, with the
batch open; what it cannot know is never taken over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sartor.measure.plan.steps import Buffer, Problem

Form = tuple[int | str, ...]
"""A tensor's shape and bytes an element, as far as the runtime compares them."""


def runtime_buffers(problem: Problem, forms: Mapping[str, Form]) -> list[Buffer]:
    """``forms``: of the tensors whose shapes are known before the network runs."""
    end = len(problem.steps)
    uses = Counter(name for step in problem.steps for name in step.inputs)
    uses.update(name for step in problem.steps for name in step.outputs)
    uses.update((*problem.inputs, *problem.outputs))  # the caller's own: never taken over
    origin: dict[str, str] = {name: name for name in problem.inputs}
    made = {name: Buffer(name, problem.sizes[name], -1, -1, [name]) for name in problem.inputs}
    freed: list[str] = []

    def reuse(reused: str, name: str) -> None:
        original = origin[reused]
        origin[name] = original
        uses[original] += uses[name]
        made[original].tensors.append(name)

    def release(name: str, number: int) -> None:
        original = origin[name]
        made[original].last = number
        uses[original] -= 1
        if not uses[original]:
            freed.append(original)

    def new(name: str, number: int) -> None:
        origin[name] = name
        made[name] = Buffer(name, problem.sizes[name], number, number, [name])

    for number, step in enumerate(problem.steps):
        for name in step.outputs:
            form = forms.get(name)
            over = (n for n in step.overwrites if uses[origin[n]] == 1 and form and forms.get(n) == form)
            if name in problem.outputs:
                new(name, number)
            elif step.view and step.inputs:
                reuse(step.inputs[0], name)
            elif (dying := next(over, None)) is not None:
                reuse(dying, name)
            elif form and (free := next((n for n in reversed(freed) if forms.get(n) == form), None)) is not None:
                freed.remove(free)
                reuse(free, name)
            else:
                new(name, number)
        for name in (*step.inputs, *step.outputs):
            release(name, number)
    for name in problem.outputs:
        made[origin[name]].last = end
    return list(made.values())
