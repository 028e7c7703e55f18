"""The reference for every cut: the original graph with what is cut zeroed, or left out of account.

Nothing here slices. Each operator of the captured graph runs at its original size; then the entries that are cut are
set to zero. Statistics over a dimension that is cut (normalisations, softmaxes, means) are taken over what is kept.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from sartor.graph.call import Call, Value
from sartor.graph.capture import Captured

Keep = tuple[Tensor | None, ...]
"""Of each dimension, which entries are kept (bool); None where all are."""
Keeps = Callable[[Value], Keep]


class Masked(nn.Module):
    """``captured`` with entries cut, and blocks skipped: their results' names, by those of what they take. Called like
    the original, with inputs of the example's shapes."""

    def __init__(
        self,
        captured: Captured,
        values: Mapping[fx.Node, Any],
        calls: Mapping[fx.Node, Call],
        held: Keeps,
        tensors: Mapping[str, Value],
        data: Mapping[str, Tensor],
        skipped: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self._captured = captured
        self._values = values
        self._calls = calls
        self._keep = held
        self._skipped = skipped or {}
        self._tensors = {name: _zeroed(tensor.detach().clone(), held(tensors[name])) for name, tensor in data.items()}

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = iter(pytree.tree_leaves((args, kwargs)))
        sources = self._captured.sources
        module = self._captured.program.graph_module
        flat = self._run(
            module, lambda node: self._tensors[sources[node.name]] if node.name in sources else next(given)
        )
        spec = self._captured.program.call_spec.out_spec
        return pytree.tree_unflatten(list(flat)[-spec.num_leaves :], spec) if spec is not None else flat

    def _run(self, module: nn.Module, given: Callable[[fx.Node], Any]) -> Any:
        results: dict[fx.Node, Any] = {}

        def filled(value: Any) -> Any:
            return fx.node.map_aggregate(value, lambda a: results[a] if isinstance(a, fx.Node) else a)

        for node in module.graph.nodes:  # type: ignore[union-attr]
            if node.op == "placeholder":
                results[node] = given(node)
            elif node.op == "get_attr":
                results[node] = operator.attrgetter(str(node.target))(module)
            elif node.op == "output":
                return filled(node.args[0])
            else:
                results[node] = self._call(node, filled(node.args), filled(node.kwargs))
                if node.name in self._skipped:  # what a block that goes returns is what it takes
                    results[node] = next(r for n, r in results.items() if n.name == self._skipped[node.name])
        return None

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        inner = [a for a in args if isinstance(a, fx.GraphModule)]
        if len(inner) == 1 and str(node.target).startswith("wrap_with"):
            rest = iter(args[list(args).index(inner[0]) + 1 :])
            return self._run(inner[0], lambda _: next(rest))
        target: Any = node.target
        call = self._calls.get(node)
        special = SPECIAL.get(call.op) if call is not None else None
        keeps = [self._keep(value) for value in call.tensors()] if call is not None and special is not None else []
        if special is not None and call is not None and any(k is not None for keep in keeps for k in keep):
            named = dict(zip((a.name for a in target._schema.arguments), args, strict=False))
            result = special(target, {**call.arguments, **named, **kwargs}, keeps[0], self._keep, call)
        else:
            result = target(*args, **kwargs)
        self._zero(result, self._values.get(node))
        return result

    def _zero(self, result: Any, value: Any) -> None:
        if isinstance(result, (list, tuple)) and isinstance(value, (list, tuple)):
            for r, v in zip(result, value, strict=True):
                self._zero(r, v)
        elif isinstance(result, Tensor) and isinstance(value, Value):
            _zeroed(result, self._keep(value))


def _zeroed(tensor: Tensor, keep: Keep) -> Tensor:
    """``tensor`` with what is not kept set to zero, in place: a view must change what it is a view of.

    Expanded tensors are left alone, for an entry of theirs is many; what they meet is zeroed.
    """
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        return tensor
    for dim, kept in enumerate(keep):
        if kept is not None:
            tensor.index_fill_(dim, (~kept).nonzero()[:, 0].to(tensor.device), 0)
    return tensor


def _weights(keep: Keep, shape: Sequence[int], dims: Sequence[int]) -> Tensor:
    """1 where an entry is kept in all of ``dims``, 0 elsewhere; 1 in the other dimensions' places."""
    mask = torch.ones([1] * len(shape))
    for dim in dims:
        size = [1] * len(shape)
        size[dim] = shape[dim]
        kept = keep[dim]
        mask = mask * (torch.ones(size) if kept is None else kept.to(torch.float32).reshape(size))
    return mask


def _moments(x: Tensor, keep: Keep, dims: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and sum of squared deviations over the kept entries of ``dims`` (kept as size 1), and how many they are."""
    mask = _weights(keep, x.shape, dims).to(x.dtype)
    n = mask.sum(dim=list(dims), keepdim=True).clamp(min=1)
    mean = (x * mask).sum(dim=list(dims), keepdim=True) / n
    return mean, (((x - mean) * mask) ** 2).sum(dim=list(dims), keepdim=True), n


def _axes(arguments: Mapping[str, Any], x: Tensor) -> list[int]:
    given = arguments.get("dim")
    if given is None or given == []:
        return list(range(x.dim()))
    return [axis % x.dim() for axis in ([given] if isinstance(given, int) else given)]


def _layer_norm(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Tensor:
    x = a["input"]
    dims = list(range(x.dim() - len(a["normalized_shape"]), x.dim()))
    mean, squares, n = _moments(x, keep, dims)
    if "rms" in call.op:
        mask = _weights(keep, x.shape, dims).to(x)
        eps = torch.finfo(x.dtype).eps if a["eps"] is None else a["eps"]
        out = x * torch.rsqrt(((x * mask) ** 2).sum(dim=dims, keepdim=True) / n + eps)
    else:
        out = (x - mean) * torch.rsqrt(squares / n + a["eps"])
    out = out if a.get("weight") is None else out * a["weight"]
    return out if a.get("bias") is None else out + a["bias"]


def _group_norm(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Tensor:
    x, groups = a["input"], a["num_groups"]
    whole = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    mask = _weights(keep, x.shape, range(1, x.dim())).to(x).expand(1, *x.shape[1:]).reshape(1, *whole.shape[1:])
    n = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (whole * mask).sum(dim=(2, 3), keepdim=True) / n
    squares = (((whole - mean) * mask) ** 2).sum(dim=(2, 3), keepdim=True)
    out = ((whole - mean) * torch.rsqrt(squares / n + a["eps"])).reshape(x.shape)
    size = [1, -1] + [1] * (x.dim() - 2)
    out = out if a["weight"] is None else out * a["weight"].reshape(size)
    return out if a["bias"] is None else out + a["bias"].reshape(size)


def _batch_norm(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Tensor:
    """With the batch's own statistics (weight standardisation normalises kernels so), those of what is kept."""
    own = a.get("use_input_stats", a.get("training"))
    if not own:
        return op(**_by_name(op, a))
    x = a["input"]
    dims = list(range(2, x.dim())) if "instance" in call.op else [0, *range(2, x.dim())]
    mean, squares, n = _moments(x, keep, dims)
    out = (x - mean) * torch.rsqrt(squares / n + a["eps"])
    size = [1, -1] + [1] * (x.dim() - 2)
    out = out if a["weight"] is None else out * a["weight"].reshape(size)
    return out if a["bias"] is None else out + a["bias"].reshape(size)


def _mean(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Tensor:
    x = a["self"]
    return _shaped(_moments(x, keep, _axes(a, x))[0], a, x)


def _variance(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Any:
    x = a["self"]
    mean, squares, n = _moments(x, keep, _axes(a, x))
    less = a.get("correction")
    less = (1 if a.get("unbiased", True) else 0) if less is None else less
    spread = squares / (n - less)
    spread = _shaped(spread.sqrt() if ".std" in call.op else spread, a, x)
    return (spread, _shaped(mean, a, x)) if "_mean" in call.op else spread


def _shaped(value: Tensor, a: Mapping[str, Any], x: Tensor) -> Tensor:
    return value if a.get("keepdim") else value.reshape([s for i, s in enumerate(x.shape) if i not in _axes(a, x)])


def _filled(fill: float) -> Callable[..., Any]:
    """Run the operator itself, with ``fill`` where nothing is kept."""

    def special(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Any:
        first = next(iter(call.arguments))
        x = a[first]
        gone = _weights(keep, x.shape, range(x.dim())) == 0
        x = (
            x | gone
            if x.dtype == torch.bool and fill
            else x & ~gone
            if x.dtype == torch.bool
            else x.masked_fill(gone, fill)
        )
        return op(**{**_by_name(op, a), first: x})

    return special


def _least_and_most(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> tuple[Tensor, Tensor]:
    least, most = (_filled(fill)(op, a, keep, keeps, call)[i] for i, fill in enumerate((math.inf, -math.inf)))
    return least, most


def _attention(op: Any, a: Mapping[str, Any], keep: Keep, keeps: Keeps, call: Call) -> Tensor:
    """Keys that are cut are seen by no query."""
    q, k, v = a["query"], a["key"], a["value"]
    kept = keeps(call["key"])[-2]
    if kept is None:
        return op(**_by_name(op, a))
    if a["enable_gqa"]:
        k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if a["scale"] is None else a["scale"]
    scores = q @ k.transpose(-2, -1) * scale
    mask = a["attn_mask"]
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    if a["is_causal"]:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    return scores.masked_fill(~kept, -math.inf).softmax(-1) @ v


def _by_name(op: Any, a: Mapping[str, Any]) -> dict[str, Any]:
    return {argument.name: a[argument.name] for argument in op._schema.arguments if argument.name in a}


SPECIAL: dict[str, Callable[..., Any]] = {
    "aten.layer_norm.default": _layer_norm,
    "aten.rms_norm.default": _layer_norm,
    "aten.group_norm.default": _group_norm,
    "aten.batch_norm.default": _batch_norm,
    "aten.instance_norm.default": _batch_norm,
    **dict.fromkeys(("aten.mean.dim", "aten.mean.default"), _mean),
    **dict.fromkeys(
        [
            f"aten.{name}.{form}"
            for name in ("var", "std", "var_mean", "std_mean")
            for form in ("default", "dim", "correction")
        ],
        _variance,
    ),
    **dict.fromkeys(
        (
            "aten.softmax.int",
            "aten.log_softmax.int",
            "aten._softmax.default",
            "aten.amax.default",
            "aten.max.default",
            "aten.max.dim",
            "aten.logsumexp.default",
        ),
        _filled(-math.inf),
    ),
    **dict.fromkeys(("aten.amin.default", "aten.min.default", "aten.min.dim"), _filled(math.inf)),
    **dict.fromkeys(
        ("aten.prod.default", "aten.prod.dim_int", "aten.all.default", "aten.all.dim", "aten.all.dims"), _filled(1.0)
    ),
    "aten.aminmax.default": _least_and_most,
    "aten.scaled_dot_product_attention.default": _attention,
}
"""Operators whose result at a kept entry depends on entries that are cut, other than by a sum."""
