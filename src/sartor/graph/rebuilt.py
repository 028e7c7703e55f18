"""The captured graph with its tensors sliced and its constants changed: run as it stands, or as a module."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from sartor.graph.call import Call
from sartor.graph.capture import Captured
from sartor.graph.couple import where_of
from sartor.graph.removable import Block
from sartor.graph.sliced import same_draws, sliced_tensors


def graph_module(
    captured: Captured,
    tensors: Mapping[str, Tensor],
    kept: Mapping[str, tuple[Tensor | None, ...]],
    constants: Mapping[fx.Node, dict[str, Any]],
    calls: Mapping[fx.Node, Call],
    skipped: Sequence[Block] = (),
    layers: bool = True,
) -> fx.GraphModule:
    """The captured graph as a module: tensors sliced, constants changed, blocks left out (``skipped``).

    With ``layers`` batch norms and dropouts are layers again, so that ``train()`` means what it did.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of how it copies graphs
        module = captured.program.module(check_guards=False)
    for name in ("train", "eval"):  # torch's own refusal, for graphs whose mode is baked in
        module.__dict__.pop(name, None)
    module._forward_pre_hooks.clear()  # checks of the example's sizes
    _skip(module, skipped)
    for name, child in module.named_children():  # graphs that operators run are the captured program's own
        if isinstance(child, fx.GraphModule):
            setattr(module, name, copy.deepcopy(child))
    for name, tensor in sliced_tensors(tensors, kept).items():
        _put(module, name, tensor)
    originals = dict(_named_nodes(captured.program.graph_module))
    for name, node in list(_named_nodes(module)):
        original = originals.get(name)
        if original is None:
            continue
        if original in constants:
            node.target, node.args, node.kwargs = changed(node, calls[original], constants[original])
        if layers and original in calls and node.graph is module.graph:
            _as_layer(module, captured.model, node, calls[original])
    if skipped:
        module.delete_all_unused_submodules()
    for inner in module.modules():
        if isinstance(inner, fx.GraphModule):
            inner.graph.lint()
            inner.recompile()
    module.eval()
    return module


def _skip(module: fx.GraphModule, skipped: Sequence[Block]) -> None:
    """Leave out blocks: what reads the result of one reads what it takes."""
    named = {node.name: node for node in module.graph.nodes}
    taken = {block.given: block.taken for block in skipped}
    for given, name in taken.items():
        while name in taken:  # the block before goes, too
            name = taken[name]
        named[given].replace_all_uses_with(named[name])
    gone = tuple(f"{block.path}." for block in skipped)
    for node in reversed(module.graph.nodes):  # steps in place would count as alive
        if gone and not node.users and node.op == "call_function" and f"{where_of(node)}.".startswith(gone):
            module.graph.erase_node(node)
    if gone:
        module.graph.eliminate_dead_code()


def _named_nodes(module: fx.GraphModule, prefix: str = "") -> Iterator[tuple[str, fx.Node]]:
    """Nodes that call operators, those of graphs that operators run too, by a name that a copy of the graph keeps."""
    for node in list(module.graph.nodes):
        if node.op == "call_function":
            yield f"{prefix}{node.name}", node
    for name, child in module.named_children():
        if isinstance(child, fx.GraphModule):
            yield from _named_nodes(child, f"{prefix}{name}.")


def _put(module: nn.Module, path: str, tensor: Tensor) -> None:
    owner, _, name = path.rpartition(".")
    holder = module.get_submodule(owner) if owner else module
    if name in holder._parameters:
        holder._parameters[name] = tensor  # type: ignore[assignment]
    elif name in holder._buffers:
        holder._buffers[name] = tensor
    else:
        setattr(holder, name, tensor)


def changed(node: fx.Node, call: Call, new: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Operator, positional and named arguments of ``node`` with its new constants, where they stood before."""
    if "split_sizes" in new:
        args = (node.args[0], list(new["split_sizes"]), call.get("dim", 0))
        return torch.ops.aten.split_with_sizes.default, args, {}
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    positional, named = list(node.args), dict(node.kwargs)
    for name, value in new.items():
        position = names.index(name)
        old = positional[position] if position < len(positional) else named.get(name)
        if isinstance(value, list) and isinstance(old, (list, tuple)):  # symbolic sizes stay symbolic
            value = [o if isinstance(o, fx.Node) else v for o, v in zip(old, value, strict=True)]
        if position < len(positional):
            positional[position] = value
        else:
            named[name] = value
    return node.target, tuple(positional), named


DROPOUTS = tuple(f"aten.{kind}.default" for kind in ("dropout", "dropout_", "feature_dropout", "feature_dropout_"))


def _as_layer(module: fx.GraphModule, model: nn.Module, node: fx.Node, call: Call) -> None:
    """Batch norm and dropout as the layers of ``model`` that they came from: in the graph they are fixed to eval mode.

    Dropout inside of recurrent layers and attention stays off.
    """
    original = _submodule(model, call.where)
    if call.op in DROPOUTS and call["p"] > 0:
        kind = _torchs(type(original)) if isinstance(original, nn.modules.dropout._DropoutNd) else nn.Dropout
        path = f"{call.where.replace('.', '_') or 'model'}_{node.name}"
        module.add_module(path, kind(call["p"]))
        _call_layer(node, path)
    elif call.op == "aten.batch_norm.default" and isinstance(original, nn.modules.batchnorm._BatchNorm):
        given = dict(zip(("weight", "bias", "running_mean", "running_var"), node.args[1:5], strict=True))
        held = _submodule(module, call.where)
        named = {n: str(a.target) for n, a in given.items() if isinstance(a, fx.Node)}
        if type(held) is not nn.Module or any(path != f"{call.where}.{n}" for n, path in named.items()):
            return
        norm = _plain_norm(original, call)
        if norm is None:
            return
        norm._parameters = {**original._parameters, **held._parameters}
        norm._buffers = {**original._buffers, **held._buffers}
        statistics: Any = norm.running_mean
        norm.num_features = call["input"].shape[1] if statistics is None else len(statistics)
        parent, _, name = call.where.rpartition(".")
        (module.get_submodule(parent) if parent else module)._modules[name] = norm
        unused = [a for a in node.args[1:5] if isinstance(a, fx.Node) and len(a.users) == 1]
        _call_layer(node, call.where)
        for attribute in unused:
            attribute.graph.erase_node(attribute)


def _plain_norm(original: nn.modules.batchnorm._BatchNorm, call: Call) -> nn.modules.batchnorm._BatchNorm | None:
    """Torch's own layer for this call of the operator, and nothing else; None where there is no such layer.

    A class of the model's own, such as timm's BatchNormAct2d, or a hook may do more, which is in the graph as well.
    """
    kind = _torchs(type(original))
    if kind is nn.modules.batchnorm._BatchNorm or call["training"] is not (original.running_mean is None):
        return None
    return kind(1, call["eps"], original.momentum, track_running_stats=original.track_running_stats)


def _torchs(kind: type) -> Any:
    """The class of torch's own that this one is made from."""
    return next(base for base in kind.__mro__ if base.__module__.startswith("torch.nn."))


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _call_layer(node: fx.Node, path: str) -> None:
    x = node.args[0]
    node.op, node.target, node.args, node.kwargs = "call_module", path, (x,), {}


def _one_by_one(values: Iterable[Any]) -> Callable[[fx.Node], Any]:
    """Each call gives the next value."""
    left = iter(values)
    return lambda _: next(left)


@torch.no_grad()
def run_sliced(
    captured: Captured,
    example: tuple[tuple[Any, ...], dict[str, Any]],
    tensors: Mapping[str, Tensor],
    constants: Mapping[fx.Node, dict[str, Any]],
    calls: Mapping[fx.Node, Call],
) -> list[Tensor]:
    """What :func:`graph_module`, with ``tensors`` in the place of its own, says on the example inputs, without the time
    it takes to make one."""
    tensors = {
        n: t if isinstance(t, nn.Parameter) else t.clone() for n, t in tensors.items()
    }  # code may change buffers
    given = iter([t.clone() if isinstance(t, Tensor) else t for t in pytree.tree_leaves(example)])

    def run(module: fx.GraphModule, inputs: Callable[[fx.Node], Any]) -> Any:
        results: dict[fx.Node, Any] = {}
        last = {a: node for node in module.graph.nodes for a in node.all_input_nodes}

        def filled(value: Any) -> Any:
            return fx.node.map_aggregate(value, lambda a: results[a] if isinstance(a, fx.Node) else a)

        for node in module.graph.nodes:
            if node.op == "placeholder":
                results[node] = inputs(node)
            elif node.op == "get_attr":
                results[node] = operator.attrgetter(str(node.target))(module)
            elif node.op == "output":
                return filled(node.args[0])
            else:
                target: Any = node.target
                args, kwargs = filled(node.args), filled(node.kwargs)
                if node in constants:
                    target, *rest = changed(node, calls[node], constants[node])
                    args, kwargs = filled(rest[0]), filled(rest[1])
                inner = [a for a in args if isinstance(a, fx.GraphModule)]
                if len(inner) == 1 and str(target).startswith("wrap_with"):
                    results[node] = run(inner[0], _one_by_one(args[list(args).index(inner[0]) + 1 :]))
                else:
                    results[node] = target(*args, **kwargs)
            for used in node.all_input_nodes:  # memory as flat as a forward pass's
                if last[used] is node:
                    del results[used]
        return None

    sources = captured.sources
    with same_draws():
        said = run(
            captured.program.graph_module, lambda n: tensors[sources[n.name]] if n.name in sources else next(given)
        )
    spec = captured.program.call_spec.out_spec
    own = list(said)[-spec.num_leaves :] if spec is not None else list(said)  # the first may be changed buffers
    return [t for t in pytree.tree_leaves(own) if isinstance(t, Tensor)]
