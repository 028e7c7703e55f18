"""Any module as a graph of ATen operators, by ``torch.export``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

from sartor.errors import InputError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Inputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""Example inputs: one tensor, positional arguments, or arguments by name."""


@dataclass(frozen=True, eq=False)
class Captured:
    """A module, what it was captured with, and its graph.

    ``sources``: placeholder's name → name of the parameter, buffer or constant it stands for. ``tensors``: those.
    """

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    program: ExportedProgram
    sources: dict[str, str]
    tensors: dict[str, Tensor]


def capture(model: nn.Module, inputs: Inputs, *, any_batch: bool = False) -> Captured:
    """Capture ``model`` in eval mode on example ``inputs``; its mode is left as it was. ``any_batch``: the graph takes
    tensors of any number of rows (slower to capture); its own example has each row twice.

    Raises InputError where ``torch.export`` cannot follow it, naming the line of the model's code that stopped it.
    """
    # Imported late: a second of a program's start that most programs need not spend.
    from torch.export import Dim, export
    from torch.export.graph_signature import InputKind

    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, not {type(model).__name__}")
    args, kwargs = arguments(inputs)
    shapes: Any = None
    if any_batch:
        args, kwargs = pytree.tree_map(lambda v: torch.cat([v, v]) if _has_rows(v) else v, (args, kwargs))
        free = pytree.tree_map(lambda v: {0: Dim.AUTO} if _has_rows(v) else None, (args, kwargs))
        shapes = dict(inspect.signature(model.forward).bind(*free[0], **free[1]).arguments)
    with evaluating(model), _masks_as_given(), _plain_outputs(model), _quiet():
        try:
            program = export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise InputError(_explain(model, error, args, kwargs)) from error
    checks = any("assert" in str(node.target) for node in program.graph.nodes)
    if checks and (failure := _failure(model, args, kwargs)):  # of values: a capture does not look at them
        raise InputError(failure)
    kinds = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
    sources = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs if spec.kind in kinds}
    held = {**program.constants, **program.state_dict}
    tensors = {name: held[name] for name in sources.values()}
    return Captured(model, args, kwargs, program, sources, tensors)


def _has_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of a call with ``inputs``."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise InputError(f"example inputs must be a tensor, a tuple or a dict of tensors, not {type(inputs).__name__}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode, and each back in the mode it had (they may differ)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _masks_as_given() -> Iterator[None]:
    """Torch's transformer layers look whether a mask's values are those of causal attention, which a capture cannot
    tell. It is a hint: without it, the mask itself is used, and the result is the same."""
    looks = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = looks


@contextmanager
def _plain_outputs(model: nn.Module) -> Iterator[None]:
    """``torch.export`` knows tensors, numbers, lists and dicts. What else a model returns is made known to it where
    that is a dataclass, and left out where it is a cache for the next token: no answer, so that heads in it are free.
    """
    forward, own = model.forward, vars(model)

    @functools.wraps(forward)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return pytree.tree_map(_plain, forward(*args, **kwargs))

    before = {"forward": own["forward"]} if "forward" in own else {}
    own["forward"] = plain
    try:
        yield
    finally:
        del own["forward"]
        own.update(before)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind.__module__.startswith("transformers.") and kind.__name__.endswith("Cache"):
        return None
    if dataclasses.is_dataclass(value) and kind not in pytree.SUPPORTED_NODES:
        pytree.register_dataclass(kind)
        return pytree.tree_map(_plain, value)
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Where it stops, ``torch.export`` prints the whole graph so far, thousands of lines, beside what it raises."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _explain(model: nn.Module, error: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """One line: where in the model's own code the capture stopped, why, and what to do."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    name = type(model).__name__
    asks = (GuardOnDataDependentSymNode, DataDependentOutputException, DynamicOutputShapeException)
    if not isinstance(error, asks):
        if failure := _failure(model, args, kwargs):
            return failure
        way = "trace a part of it without that line, or give what it makes there"
        return f"{name} cannot be captured{_where(error)}: {_reason(error)}; {way}"
    return (
        f"{name} cannot be captured{_where(error)}: {_reason(error)}; a network whose path depends on its data has no "
        f"single graph to cut: trace the part before, {_part(model)}"
    )


def _failure(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What the model's own code raises on the example inputs, where it does."""
    try:
        with evaluating(model), torch.no_grad():
            model(*pytree.tree_map(_copied, args), **pytree.tree_map(_copied, kwargs))
    except Exception as error:
        return f"{type(model).__name__} does not run on the example inputs{_where(error)}: {_reason(error)}"
    return ""


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _where(error: BaseException) -> str:
    """The last line of the traceback outside of torch, of what torch makes code with, and of this package."""
    library = f"{Path(torch.__file__).parent}{os.sep}"  # torchvision is beside it
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((library, "<"))]
    own = [f for f in frames if not any(part in f.filename.replace("\\", "/") for part in ("sartor/graph", "/sympy/"))]
    return f" at {own[-1].filename}:{own[-1].lineno} ({own[-1].line})" if own else ""


def _reason(error: BaseException) -> str:
    """The first line that says something, without what torch repeats in brackets, and no longer than a line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    line = line.split(" (unhinted:")[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


_LONGEST = 200


def _part(model: nn.Module) -> str:
    if type(model).__module__.startswith("torchvision.models.detection"):
        return "as sartor.models.detector.Detector(model) does"
    return next((f"such as its {name}" for name, _ in model.named_children()), "which does not ask for values")
