"""``trace``: any network as a graph of groups that can be cut."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from sartor.errors import InputError
from sartor.graph.atoms import Label
from sartor.graph.call import Call, Dims, Value
from sartor.graph.capture import Captured, Inputs, capture
from sartor.graph.constants import CONSTANTS
from sartor.graph.costs import MACS
from sartor.graph.couple import Coupled, Frozen, couple
from sartor.graph.cut import Cut, atoms_cut, random_cut
from sartor.graph.groups import Group, Tie, groups_of
from sartor.graph.kept import Kept, Need, completed, needs_of
from sartor.graph.mask import Masked
from sartor.graph.rebuilt import graph_module, run_sliced
from sartor.graph.removable import Block, removable
from sartor.graph.replace import replace
from sartor.graph.rules import Rule
from sartor.graph.sliced import Change, agree, lively, outputs_of, set_sizes, sliced_tensors, smaller

log = logging.getLogger(__name__)

Keep = Cut | Mapping[str, Iterable[int]]


class Graph:
    """A captured network, the groups of it that can be cut, and what could not be followed.

    ``groups``: what can be cut together, each by itself. ``blocks``: modules that can go. ``frozen``: operators without
    a rule; what meets them stays.
    """

    def __init__(self, captured: Captured, coupled: Coupled, rules: Mapping[str, Rule] | None = None):
        self._captured = captured
        self._coupled = coupled
        self.rules = rules
        self.groups: tuple[Group, ...] = groups_of(coupled.atoms, coupled.tensors)
        self.blocks: tuple[Block, ...] = removable(captured, coupled)
        self.frozen: tuple[Frozen, ...] = tuple(dict.fromkeys(coupled.frozen))

    @property
    def model(self) -> nn.Module:
        return self._captured.model

    @property
    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example's positional and named arguments, on the device of the model's parameters."""
        like = next(self.model.parameters(), None)
        if like is None or like.is_meta:
            return self._captured.args, self._captured.kwargs
        move = lambda v: v.to(like.device) if isinstance(v, Tensor) else v
        return pytree.tree_map(move, self._captured.args), pytree.tree_map(move, self._captured.kwargs)

    @property
    def tensors(self) -> Mapping[str, Value]:
        """The labels of every parameter, buffer and constant, by name."""
        return self._coupled.tensors

    @property
    def data(self) -> Mapping[str, Tensor]:
        """Every parameter, buffer and constant as it is now, by name. Raises InputError where shapes have changed."""
        found = {}
        for name, traced in self._captured.tensors.items():
            try:
                now = operator.attrgetter(name)(self.model)
            except AttributeError:  # a constant written in the code
                now = traced
            if not isinstance(now, Tensor) or now.shape != traced.shape:
                raise InputError(f"{name} has changed since the network was traced: trace it again")
            found[name] = now
        return found

    @property
    def labels(self) -> Iterator[Label]:
        """Every dimension of every tensor: of weights, of what operators take and of what they return."""
        values = [*self._coupled.tensors.values(), *(v for call in self.calls for v in call.tensors())]
        for value in self._coupled.values.values():
            values += [v for v in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(v, Value)]
        known: set[int] = set()
        for label in (label for value in values for label in value.dims):
            if id(label) not in known:
                known.add(id(label))
                yield label

    @property
    def calls(self) -> Iterable[Call]:
        """Every operator's call, in order."""
        return self._coupled.calls.values()

    def group(self, name: str) -> Group:
        """Raises KeyError where there is none of that name."""
        return {group.name: group for group in self.groups}[name]

    def random_cut(self, keep: float = 0.5, seed: int = 0) -> Cut:
        """A random share ``keep`` of every group's entries, at least one, :meth:`completed`. Raises InputError for
        other shares."""
        return self.completed(random_cut(self.groups, keep, seed))

    def completed(self, cut: Keep, orders: Mapping[str, Sequence[int]] | None = None) -> Cut:
        """``cut``, and the entries put back without which some operator would be left with nothing to work on: where
        the code reads ``x[:, :8]``, one of the first eight channels stays. What is put back is the first by ``orders``
        (entries of groups, the best first; else as they stand).

        Raises InputError for groups and entries that there are not.
        """
        cut = self._checked(cut)
        found = completed(self.groups, self._coupled, self._needs, cut, orders or {})
        return Cut(found.keep, cut.without)

    def slice(self, cut: Keep) -> nn.Module:
        """The network without what ``cut`` removes: smaller, and exactly what the masked original computes.

        An ordinary module of the model's own classes, with attributes such as ``in_channels`` and ``num_heads`` put
        right. Where its code has sizes that no attribute holds, its captured graph as a ``torch.fx.GraphModule``, and
        a warning that says so. Both are checked against each other on the example inputs.

        Raises InputError for entries that are not there, and groups of which nothing would be left.
        """
        gone, kept = self._checked(cut).without, self.kept(cut)
        module = self.indexed(self._indices_of(kept), kept.count)
        if module is not None:
            for path in gone:
                replace(module, path, nn.Identity())
            args, kwargs = self.inputs
            if not gone or agree(outputs_of(module, args, kwargs), outputs_of(self._as_graph(cut), args, kwargs)):
                return module
        log.warning(
            "%s has sizes or blocks in its code that no attribute holds: the cut network is its captured graph, a %s",
            type(self.model).__name__,
            "torch.fx.GraphModule",
        )
        return self.as_graph(cut).train(self.model.training)

    def indexed(
        self, indices: Mapping[str, tuple[Tensor | None, ...]], count: Callable[[Label], int]
    ) -> nn.Module | None:
        """The model's own classes with these indices of each tensor's dimensions (None: all; one may come twice), and
        ``count`` of each label; None where its code has sizes that no attribute holds.

        Checked against the captured graph with the same tensors, on the example inputs.
        """
        constants, changes = self.constants(count)
        sliced = sliced_tensors(self.data, indices)
        module = smaller(self.model, sliced)
        args, kwargs = self.inputs
        state = {n: t for n, t in lively(module).items() if n in sliced}
        expected = run_sliced(self._captured, self.inputs, {**sliced, **state}, constants, self._coupled.calls)
        fits = lambda m: agree(outputs_of(m, args, kwargs, state), expected)
        return module if set_sizes(module, changes, fits) else None

    def as_graph(self, cut: Keep) -> nn.Module:
        """The captured graph after ``cut``, whatever the model's code allows; for any batch where that allows it."""
        args, kwargs = self.inputs
        own = self._as_graph(cut)
        said = outputs_of(own, args, kwargs)
        if not self._checked(cut).without and not agree(said, self._expected(cut)):
            log.warning("%s: its batch norms and dropouts stay as they are in eval mode", type(self.model).__name__)
            own = self._as_graph(cut, layers=False)
            said = outputs_of(own, args, kwargs)
        if self._any_batch is None:
            return own
        module = self._any_batch._as_graph(cut)
        return module if agree(outputs_of(module, args, kwargs), said) else own

    def _as_graph(self, cut: Keep, layers: bool = True) -> nn.Module:
        kept = self.kept(cut)
        constants, _ = self.constants(kept.count)
        gone = self._checked(cut).without
        skipped = [block for block in self.blocks if block.path in gone]
        calls = self._coupled.calls
        return graph_module(self._captured, self.data, self.indices(cut), constants, calls, skipped, layers=layers)

    def _expected(self, cut: Keep) -> list[Tensor]:
        """What the captured operators say on the example inputs after ``cut``, run one by one."""
        constants, _ = self.constants(self.kept(cut).count)
        sliced = sliced_tensors(self.data, self.indices(cut))
        return run_sliced(self._captured, self.inputs, sliced, constants, self._coupled.calls)

    @cached_property
    def _any_batch(self) -> Graph | None:
        """The same network captured for any number of rows; None where its code fixes it."""
        try:
            captured = capture(self.model, self.inputs[0] or self.inputs[1], any_batch=True)
        except InputError as error:
            log.debug("not captured for any batch: %s", error)
            return None
        graph = Graph(captured, couple(captured, self.rules), self.rules)
        same = [(g.name, g.size) for g in graph.groups] == [(g.name, g.size) for g in self.groups]
        same = same and [b.path for b in graph.blocks] == [b.path for b in self.blocks]
        return graph if same and not (self.inputs[0] and self.inputs[1]) else None

    def mask(self, cut: Keep) -> nn.Module:
        """The original network with what ``cut`` removes zeroed or left out of account: the reference for ``slice``.

        It shares no code with slicing, runs in eval mode and takes inputs of the example's shapes.
        """
        kept = self.kept(cut)
        cache: dict[int, Tensor | None] = {}

        def keep(value: Value) -> tuple[Tensor | None, ...]:
            return tuple(cache.setdefault(id(label), _mask(kept, label)) for label in value.dims)

        gone = self._checked(cut).without
        skipped = {block.given: block.taken for block in self.blocks if block.path in gone}
        held = self._coupled
        return Masked(self._captured, held.values, held.calls, keep, held.tensors, self.data, skipped)

    def macs(self, cut: Keep | None = None) -> int:
        """Multiply-accumulates on the example inputs after ``cut``, counted without making it."""
        kept = self.kept(cut or {})
        gone = tuple(f"{path}." for path in self._checked(cut or {}).without)
        total = 0
        for node, call in self._coupled.calls.items():
            if call.op in MACS and not f"{call.where}.".startswith(gone):
                value = self._coupled.values[node]
                total += MACS[call.op](call, (value[0] if isinstance(value, list) else value).dims, kept.count)
        return total

    def params(self, cut: Keep | None = None) -> int:
        """Parameters after ``cut``; one that is tied to another counts once."""
        kept = self.kept(cut or {})
        gone = tuple(f"{path}." for path in self._checked(cut or {}).without)
        values = {
            id(self._coupled.tensors[name]): self._coupled.tensors[name]
            for name, tensor in self._captured.tensors.items()
            if isinstance(tensor, nn.Parameter) and not name.startswith(gone)
        }
        return sum(math.prod(kept.count(label) for label in value.dims) for value in values.values())

    def entries(self, group: Group) -> Iterator[tuple[Tie, NDArray[np.int64]]]:
        """For each tie of ``group``: the entry of the group that each position of the dimension belongs to, or -1."""
        for tie in group.ties:
            yield tie, self.owner(group, self._coupled.tensors[tie.tensor].dims[tie.dim])

    def owner(self, group: Group, label: Label) -> NDArray[np.int64]:
        """The entry of ``group`` that each position of a label belongs to, or -1."""
        entry = np.full(len(self._coupled.atoms), -1)
        entry[group.atoms] = np.arange(group.size)
        rows = self._coupled.resolved(label)
        return np.where(rows >= 0, entry[rows], -1).max(axis=1, initial=-1)

    def cuttable(self, tensor: str) -> float:
        """The share of a parameter's or buffer's entries that goes with some group."""
        staying = 1.0
        for label in self.tensors[tensor].dims if tensor in self.tensors else ():
            rows = self._coupled.resolved(label)
            free = (rows >= 0).any(axis=1).mean() if rows.size else 0.0
            staying *= 1 - float(free)
        return 1 - staying

    def why_kept(self, tensor: str) -> list[str]:
        """Why dimensions of a parameter or buffer cannot be cut; nothing for those that can."""
        if tensor not in self.tensors:
            return ["not used in the graph"]
        return [why for label in self.tensors[tensor].dims for why in self._coupled.atoms.why(label)]

    def _checked(self, cut: Keep) -> Cut:
        return Cut.of(self.groups, cut, (block.path for block in self.blocks))

    def kept(self, cut: Keep) -> Kept:
        """What ``cut`` leaves of every label. Raises InputError for cuts that make no sense."""
        kept = Kept(self._coupled, atoms_cut(self.groups, self._checked(cut), len(self._coupled.atoms)))
        if starved := kept.starved(self._needs):
            raise InputError(f"{starved.why}: keep more of its groups, or see Graph.completed")
        return kept

    @cached_property
    def _needs(self) -> list[Need]:
        return needs_of(self._coupled)

    def indices(self, cut: Keep) -> dict[str, tuple[Tensor | None, ...]]:
        """For each parameter and buffer, the indices of each dimension that ``cut`` keeps; None where all are."""
        return self._indices_of(self.kept(cut))

    def _indices_of(self, kept: Kept) -> dict[str, tuple[Tensor | None, ...]]:
        return {name: self._indices(value.dims, kept) for name, value in self._coupled.tensors.items()}

    def _indices(self, dims: Dims, kept: Kept) -> tuple[Tensor | None, ...]:
        return tuple(
            None if (rows := kept.rows(label)) is None else torch.from_numpy(np.flatnonzero(rows)) for label in dims
        )

    def constants(self, count: Callable[[Label], int]) -> tuple[dict[fx.Node, dict[str, Any]], list[Change]]:
        """Constants that stand for dimensions, where ``count`` gives the size of each label: by node, and by module."""
        constants: dict[fx.Node, dict[str, Any]] = {}
        changes: list[Change] = []
        for node, call in self._coupled.calls.items():
            rule = CONSTANTS.get(call.op)
            if rule is None:
                continue
            value = self._coupled.values[node]
            out = [v.dims for v in (value if isinstance(value, list) else [value])]
            new = rule(self._coupled.atoms, call, out, count)
            if new:
                constants[node] = new
                for name, after in new.items():
                    before = call.get(name)
                    if name == "split_sizes" and before is None:
                        axis = call.get("dim", 0) % call["self"].rank
                        before = call.get("split_size", [len(dims[axis]) for dims in out])
                        after = after[0] if isinstance(before, int) else after
                    changes.append(Change(call.where, name, before, after))
        return constants, changes


def _mask(kept: Kept, label: Label) -> Tensor | None:
    rows = kept.rows(label)
    return None if rows is None else torch.from_numpy(rows)


def trace(model: nn.Module, inputs: Inputs, *, rules: Mapping[str, Rule] | None = None) -> Graph:
    """Capture ``model`` on example ``inputs`` (a tensor, a tuple, or a dict by name) and derive its groups.

    ``rules``: for operators Sartor does not know, by their name with overload (``mylib.op.default``): functions
    ``rule(atoms, call) -> labels``, see ``sartor.graph.rules``. Operators without a rule freeze what they touch, are
    named in ``Graph.frozen`` and in a warning.

    Raises InputError where the model cannot be captured, naming the line.
    """
    captured = capture(model, inputs)
    graph = Graph(captured, couple(captured, rules), rules)
    for frozen in graph.frozen:
        log.warning("not followed, and so not cut: %s", frozen)
    return graph
