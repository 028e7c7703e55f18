"""The memory that training takes where only some parameters are updated, planned before anything runs.

A parameter's gradient needs what its operator read, and the path from it to the loss needs what the operators between
keep: so which layers are updated decides which activations stay until the backward pass comes back to them. Biases keep
nothing, layers before the first updated one run no backward pass, and of a weight of which some input channels are
updated those channels of its input stay (sparse layer and tensor update, Lin et al., P432, arXiv 2206.15472, section
2.2). A gradient of a weight is applied as it is made and gone with its step; that a ReLU let a value through is one bit
(section 2.3). What is kept is what PyTorch's autograd needs of all that it saves, which the tests show by taking the
rest away, and each of what is kept.

Deviations: the planner's side alone. Nothing here trains: neither the scaling of int8 gradients (section 2.1) nor the
choice of what to update is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import Captured, capture
from sartor.measure.plan.plan import Plan, make_plan
from sartor.measure.plan.steps import Problem, Step

_INPUT, _RESULT, _SIGN = "input", "result", "sign"
_KEPT = {
    "relu": _SIGN,
    "hardtanh": _INPUT,
    "relu6": _INPUT,
    "hardswish": _INPUT,
    "hardsigmoid": _INPUT,
    "silu": _INPUT,
    "gelu": _INPUT,
    "sigmoid": _RESULT,
    "tanh": _RESULT,
    "avg_pool2d": _INPUT,
}
"""What an operator of one activation keeps for its input's gradient; of ``_SIGN`` the result, where no bit does."""
_VIEW_LIST = "flatten view reshape unsqueeze squeeze alias detach dropout contiguous _unsafe_view"
_VIEWS = frozenset(_VIEW_LIST.split())
_NOTHING_LIST = "add sub neg permute transpose mean cat pad constant_pad_nd clone"
_NOTHING = frozenset(_NOTHING_LIST.split()) | _VIEWS
_OVERWRITING = frozenset(["add", "sub", "neg", *_KEPT]) - {"avg_pool2d"}
_WEIGHTED = {"conv1d": -2, "conv2d": -3, "linear": -1}
"""Where the channels of what they read are among its axes."""


@dataclass(frozen=True)
class TrainingPlan:
    """``plan``: of one step of training at batch 1, forward and backward. ``kept``: names of the graph's tensors that
    the forward pass leaves for the backward pass, and how many values each has; a name with ``[:k]`` is the first ``k``
    channels of a tensor. ``forward_bytes``: the peak of the forward pass alone, as inference does it. ``trained``: the
    values that are updated."""

    plan: Plan
    kept: dict[str, int]
    forward_bytes: int
    trained: int

    @property
    def peak_bytes(self) -> int:
        """Of the one block of memory in which a step of training runs."""
        return self.plan.arena_bytes


def training_plan(
    model: nn.Module | Captured,
    shape: tuple[int, ...],
    updates: Mapping[str, float],
    *,
    activation_bytes: int = 1,
    gradient_bytes: int = 1,
    weight_gradient_bytes: int = 4,
    masks: bool = True,
) -> TrainingPlan:
    """Plan a step of training ``model`` on one example of ``shape`` that updates the parameters named in ``updates``.

    ``updates``: parameter's name → the share of its input channels that is updated, 1 for all (biases: 1). ``masks``:
    ReLUs keep one bit a value. A model that was captured with one example is taken as it is. The loss is the caller's:
    the plan begins its backward pass with the gradient of the output. Raises InputError for unknown parameters, shares
    outside (0, 1], and operators whose gradient has no rule, batch norm among them: fuse it, as it is before a network
    runs on such a device.
    """
    captured = model if isinstance(model, Captured) else capture(model, torch.zeros(1, *shape))
    known = dict(captured.model.named_parameters())
    unknown = [name for name in updates if name not in known]
    if unknown or not updates:
        raise InputError(f"the model has no parameter {unknown[0]!r}" if unknown else "name parameters to update")
    wrong = [name for name, share in updates.items() if not 0 < share <= 1]
    if wrong:
        raise InputError(f"the share of {wrong[0]} that is updated must be above 0 and at most 1")
    for name, value in [
        ("activation", activation_bytes),
        ("gradient", gradient_bytes),
        ("weight", weight_gradient_bytes),
    ]:
        if value < 1:
            raise InputError(f"a value takes at least one byte, not {value} ({name}_bytes)")
    return _Writer(captured, updates, masks).planned(activation_bytes, gradient_bytes, weight_gradient_bytes)


class _Writer:
    """The steps of both passes, from the captured graph."""

    def __init__(self, captured: Captured, updates: Mapping[str, float], masks: bool) -> None:
        self.updates, self.masks = updates, masks
        self.parameters = dict(captured.model.named_parameters())
        self.sources = captured.sources
        nodes = list(captured.program.graph.nodes)
        self.nodes = [node for node in nodes if node.op == "call_function" and _tensor(node) is not None]
        self.fed = [node.name for node in nodes if node.op == "placeholder" and node.name not in self.sources]
        self.out = [a.name for node in nodes if node.op == "output" for a in node.args[0] if hasattr(a, "name")]
        self.values = {n.name: int(_tensor(n).numel()) for n in nodes if _tensor(n) is not None}
        self.shapes = {n.name: tuple(_tensor(n).shape) for n in nodes if _tensor(n) is not None}
        self.activations = {*self.fed, *(node.name for node in self.nodes)}
        self.differentiable: set[str] = set()
        self.kept: dict[str, int] = {}
        self.signs: set[str] = set()
        self.asked: dict[str, list[str]] = {}
        """Of each node, what the gradient of its input is made of beside the gradient of its result."""
        self.own: dict[str, list[str]] = {}
        """The same of its parameters' gradients."""
        self.base: dict[str, str] = {name: name for name in self.fed}
        for node in self.nodes:
            self._keep(node)

    def _keep(self, node: Any) -> None:
        op, reads = _op(node), self._reads(node)
        self.base[node.name] = self.base[reads[0]] if op in _VIEWS and reads else node.name
        trained = self._trained(node)
        flows = [name for name in reads if name in self.differentiable]
        self.asked[node.name], self.own[node.name] = [], []
        if not trained and not flows:
            return
        self.differentiable.add(node.name)
        if op in _WEIGHTED:
            weight = next((name for name in trained if self.parameters[name].dim() > 1), None)
            if weight is not None:
                axis = _WEIGHTED[op]
                self._hold(node, reads[0], self.own, axis=axis, some=self._some(reads[0], axis, weight))
        elif op == "mul":
            tensors = [a.name for a in node.args[:2] if hasattr(a, "name")]
            for one, other in zip(tensors, reversed(tensors), strict=True):
                if other in self.activations and len(tensors) == 2:
                    if one in flows:
                        self._hold(node, other, self.asked)
                    elif self.sources.get(one) in trained:
                        self._hold(node, other, self.own)
        elif op in _KEPT:
            what = _KEPT[op]
            self._hold(node, reads[0] if what == _INPUT else node.name, self.asked, sign=what == _SIGN and self.masks)
        elif op == "adaptive_avg_pool2d":
            if self.values[node.name] != _tensor(node).shape[1]:  # to one pixel it is a mean
                self._hold(node, reads[0], self.asked)
        elif op not in _NOTHING or trained:
            raise InputError(
                f"what the gradient of {op} keeps is not known: fuse batch norms into their convolutions, and update "
                f"only layers that have no {op} between them and the output"
            )

    def _hold(
        self, node: Any, name: str, by: dict[str, list[str]], *, axis: int = 0, some: int = 0, sign: bool = False
    ) -> None:
        """Keep ``name`` for ``node``'s step of ``by``: all of it, or the first ``some`` along ``axis``."""
        base = self.base[name] + (f"[:{some}]" if some else "")
        by[node.name].append(f"{node.name}/sign" if sign else base)
        if sign:
            self.signs.add(node.name)
        count = self.values[self.base[name]]
        self.kept[base] = count // self.shapes[name][axis] * some if some else count

    def _some(self, image: str, axis: int, weight: str) -> int:
        """How many channels of the input the updated share of ``weight`` reads; 0 for all."""
        channels = self.parameters[weight].shape[1]
        some = max(1, round(self.updates[weight] * channels))
        grouped = self.shapes[image][axis] != channels
        return 0 if some == channels or grouped else some

    def _reads(self, node: Any) -> list[str]:
        return [n.name for n in node.all_input_nodes if n.name in self.activations]

    def _trained(self, node: Any) -> list[str]:
        names = [self.sources[n.name] for n in node.all_input_nodes if n.name in self.sources]
        return [name for name in names if name in self.updates]

    def planned(self, activation: int, gradient: int, weight: int) -> TrainingPlan:
        if not self.differentiable.intersection(self.out):
            raise InputError("the output does not depend on what is updated: name parameters that it depends on")
        sizes = {name: activation * self.values[name] for name in self.activations}
        forward = self._forward(sizes, activation)
        backward = self._backward(sizes, gradient, weight)
        inference = Problem(tuple(self._forward({}, activation, kept=False)), sizes, tuple(self.fed), tuple(self.out))
        # The loss reads the output and leaves its gradient.
        loss = Step(tuple(self.out), tuple(f"d/{name}" for name in self.out))
        sizes |= {f"d/{name}": gradient * self.values[name] for name in self.out}
        both = Problem((*forward, loss, *backward), sizes, tuple(self.fed), ())
        trained = sum(
            round(share * self.parameters[name].numel())
            if self.parameters[name].dim() > 1
            else self.parameters[name].numel()
            for name, share in self.updates.items()
        )
        return TrainingPlan(
            make_plan(both, search=False), dict(self.kept), make_plan(inference, search=False).arena_bytes, trained
        )

    def _forward(self, sizes: dict[str, int], activation: int, *, kept: bool = True) -> list[Step]:
        steps = []
        for node in self.nodes:
            op, reads = _op(node), tuple(self._reads(node))
            depthwise = (
                op == "conv2d" and len(self.shapes[node.name]) == 4 and self._groups(node) == self.shapes[node.name][1]
            )
            depthwise = depthwise and self.shapes[reads[0]][1] == self.shapes[node.name][1] > 1
            over = reads if op in _OVERWRITING else reads[:1] if depthwise else ()
            scratch = activation * self.values[node.name] // self.shapes[node.name][1] if depthwise else 0
            steps.append(Step(reads, (node.name,), over, view=op in _VIEWS, scratch=scratch))
            if not kept:
                continue
            if node.name in self.signs:
                name = f"{node.name}/sign"
                sizes[name] = -(-self.values[node.name] // 8)
                steps.append(Step((node.name,), (name,)))
            for name in self.own[node.name]:
                if "[" in name and name not in sizes:  # some channels, before the tensor is overwritten
                    sizes[name] = activation * self.kept[name]
                    steps.insert(len(steps) - 1, Step((name.partition("[")[0],), (name,)))
        return steps

    def _groups(self, node: Any) -> int:
        return int(node.args[6]) if len(node.args) > 6 else int(node.kwargs.get("groups", 1))

    def _backward(self, sizes: dict[str, int], gradient: int, weight: int) -> list[Step]:
        steps: list[Step] = []
        arrived: dict[str, list[str]] = {name: [f"d/{name}"] for name in self.out}
        for node in reversed(self.nodes):
            if node.name not in self.differentiable or node.name not in arrived:
                continue
            whole = arrived[node.name][0]
            for number, more in enumerate(arrived[node.name][1:]):  # gradients of several readers are added up
                total = f"d/{node.name}/{number}"
                sizes[total] = gradient * self.values[node.name]
                steps.append(Step((whole, more), (total,), (whole, more)))
                whole = total
            op, made = _op(node), []
            for name in dict.fromkeys(self._reads(node)):
                if name in self.differentiable:
                    into = f"d/{name}<{node.name}"
                    sizes[into] = gradient * self.values[name]
                    arrived.setdefault(name, []).append(into)
                    made.append(into)
            for name in self._trained(node):
                into = f"d/{name}<{node.name}"
                values = self.parameters[name].numel()
                sizes[into] = weight * max(1, round(self.updates[name] * values))
                steps.append(Step((whole, *self.own[node.name]), (into,)))  # applied at once
            if made:
                view = op in _VIEWS and len(made) == 1
                steps.append(
                    Step(
                        (whole, *self.asked[node.name]), tuple(made), (whole,) if op in _OVERWRITING else (), view=view
                    )
                )
        return steps


def _op(node: Any) -> str:
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(packet).rpartition(".")[2].removesuffix("_")


def _tensor(node: Any) -> Any:
    value = node.meta.get("val")
    return value if isinstance(value, torch.Tensor) else None
