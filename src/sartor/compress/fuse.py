"""Residual blocks side by side instead of one after the other: less depth, wider matrices.

``runs`` finds consecutive blocks that add to what they take; ``parallel`` gives all of a run the same input, the
first-order truncation of the stack (P142, arXiv:2309.08414 §3): ``x + f1(x) + f2(x)``. Where the blocks are
feed-forward networks, ``fuse`` makes one wide network of them that computes exactly that (P211, arXiv:2503.18908 §3.1).
``dependency`` says which blocks hardly need each other (§3.3), and ``choose_run`` takes the run that needs it least.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph import Graph, trace
from sartor.graph.capture import evaluating
from sartor.graph.replace import replace
from sartor.graph.sliced import agree, set_sizes

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)


class Parallel(nn.Module):
    """``x`` and what each of ``blocks`` adds to it."""

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for block in self.blocks:
            total = total + (block(x) - x)
        return total


def runs(graph: Graph) -> list[tuple[str, ...]]:
    """Paths of blocks that can go and follow each other directly, as long as they are; each at least two."""
    after = {block.taken: block for block in graph.blocks}
    given = {block.given for block in graph.blocks}
    found = []
    for block in graph.blocks:
        if block.taken in given:  # inside a run that began earlier
            continue
        run = [block]
        while run[-1].given in after:
            run.append(after[run[-1].given])
        if len(run) > 1:
            found.append(tuple(b.path for b in run))
    return found


def parallel(graph: Graph, run: Sequence[str]) -> nn.Module:
    """A copy of the graph's model in which the blocks of ``run`` stand side by side, in the place of the first.

    Raises InputError where ``run`` is no part of one of :func:`runs`.
    """
    _check_run(graph, run)
    model = copy.deepcopy(graph.model)
    _put(model, run, Parallel([model.get_submodule(path) for path in run]))
    return model


def fuse(graph: Graph, run: Sequence[str]) -> nn.Module:
    """:func:`parallel` with the feed-forward networks of ``run`` as one, as wide as all of them together.

    Norms at the front are folded into what reads them, for all to read the same; layer scales into what they scale.
    Raises InputError where the blocks are not alike, or one wide block is not what they are together: attention, for
    one, is no matter of width.
    """
    _check_run(graph, run)
    model = copy.deepcopy(graph.model)
    blocks = [model.get_submodule(path) for path in run]
    x = _input_of(graph, run[0])
    wide = _wide(blocks, x, list(run))
    _put(model, run, wide)
    return model


@torch.no_grad()
def dependency(graph: Graph, run: Sequence[str], batches: Sequence[Any]) -> Tensor:
    """[n, n]: how much of what block j adds changes its direction when block i before it is left out: the cosine
    distance of the two, the mean over tokens and ``batches`` (§3.3)."""
    _check_run(graph, run)
    matrix = torch.zeros(len(run), len(run), dtype=torch.float64)
    with evaluating(graph.model):
        blocks = [graph.model.get_submodule(path) for path in run]
        for batch in batches:
            x = _input_of(graph, run[0], batch)
            whole = _added(blocks, x, without=None)
            for i in range(len(run)):
                less = _added(blocks, x, without=i)
                for j in range(i + 1, len(run)):
                    matrix[i, j] += (1 - F.cosine_similarity(whole[j], less[j], dim=-1)).double().mean() / len(batches)
    return matrix


def choose_run(graph: Graph, length: int, batches: Sequence[Any]) -> tuple[str, ...]:
    """Of all ``length`` consecutive blocks that can be fused those that depend on each other least, by the mean of
    :func:`dependency`.

    Raises InputError where there are none.
    """
    best: tuple[float, tuple[str, ...]] | None = None
    for run in runs(graph):
        if len(run) < length:
            continue
        matrix = dependency(graph, run, batches)
        for start in range(len(run) - length + 1):
            part = slice(start, start + length)
            value = float(matrix[part, part].sum()) / (length * (length - 1) / 2)
            if (best is None or value < best[0]) and _can_be_fused(graph, run[part]):
                best = (value, run[part])
    if best is None:
        longest = max((len(run) for run in runs(graph)), default=0)
        raise InputError(
            f"no {length} blocks of {type(graph.model).__name__} that can be fused follow each other: "
            f"{longest} blocks do at most"
        )
    return best[1]


def _can_be_fused(graph: Graph, run: Sequence[str]) -> bool:
    try:
        fuse(graph, run)
    except InputError:
        return False
    return True


def _added(blocks: Sequence[nn.Module], x: Tensor, without: int | None) -> list[Tensor]:
    """What each block adds to the stream, one of them left out of it."""
    found = []
    for i, block in enumerate(blocks):
        said = block(x)
        found.append(said - x)
        x = x if i == without else said
    return found


def _check_run(graph: Graph, run: Sequence[str]) -> None:
    if len(run) < 2 or not any(
        tuple(whole[i : i + len(run)]) == tuple(run) for whole in runs(graph) for i in range(len(whole))
    ):
        raise InputError(
            f"{', '.join(run) or 'nothing'}: not consecutive blocks that add to their input, see runs(graph)"
        )


def _put(model: nn.Module, run: Sequence[str], first: nn.Module) -> None:
    for path in run:
        replace(model, path, first if path == run[0] else nn.Identity())


@torch.no_grad()
def _input_of(graph: Graph, path: str, batch: Any = None) -> Tensor:
    """What enters the block at ``path``, of the example or of a batch."""
    seen: list[Tensor] = []
    handle = graph.model.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        with evaluating(graph.model):
            args, kwargs = graph.inputs if batch is None else ((batch,), {})
            graph.model(*args, **kwargs)
    finally:
        handle.remove()
    if not seen or not isinstance(seen[0], Tensor):
        raise InputError(f"{path} does not take one tensor: it cannot stand beside others")
    return seen[0]


@torch.no_grad()
def _wide(blocks: Sequence[nn.Module], x: Tensor, run: Sequence[str]) -> nn.Module:
    """One block of the blocks' hidden entries together."""
    modes = [block.training for block in blocks]
    why = f"{run[0]} to {run[-1]} cannot be one wide block"
    plain = [_folded(block.eval(), x) for block in blocks]
    graphs = [trace(block, x) for block in plain]
    first = graphs[0]
    if any([g.name for g in graph.groups] != [g.name for g in first.groups] for graph in graphs):
        raise InputError(f"{why}: they are not alike")
    hidden = {(tie.tensor, tie.dim) for group in first.groups for tie in group.ties}
    wide = copy.deepcopy(plain[0])
    for name, parameter in wide.named_parameters():
        parts = [block.get_parameter(name).detach() for block in plain]
        dims = [dim for tensor, dim in hidden if tensor == name]
        if len(dims) == 1:
            value = torch.cat(parts, dims[0])
        elif not dims and name.rpartition(".")[2] == "bias" and not _of_norm(wide, name):
            value = torch.stack(parts).sum(0)  # what the last layer adds
        elif all(torch.equal(part, parts[0]) for part in parts):
            value = parts[0]
        else:
            raise InputError(f"{why}: {name} differs between them")
        owner, _, own = name.rpartition(".")
        setattr(wide.get_submodule(owner), own, nn.Parameter(value.clone(), parameter.requires_grad))
    set_sizes(wide, [], lambda _: True)
    try:
        same = agree([wide(x)], [Parallel(blocks)(x)])
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{why}: {str(error).splitlines()[0]}") from error
    if not same:
        raise InputError(f"{why}: it would not compute what they do side by side")
    for block, mode in zip(blocks, modes, strict=True):
        block.train(mode)
    return wide.train(modes[0])


def _of_norm(module: nn.Module, name: str) -> bool:
    return isinstance(module.get_submodule(name.rpartition(".")[0]), NORMS)


def _folded(block: nn.Module, x: Tensor) -> nn.Module:
    """A copy whose norms at the front have no gains and shifts of their own, and which has no layer scales: they are in
    the linear layers behind the one and before the other. Which these are is tried."""
    twin = copy.deepcopy(block)
    for path in [path for path, m in twin.named_modules() if isinstance(m, (nn.LayerNorm, nn.RMSNorm)) or _is_scale(m)]:
        layer: Any = twin.get_submodule(path)
        fold, gain = (_scale_into, layer.gamma) if _is_scale(layer) else (_norm_into, layer.weight)
        if gain is None:
            continue
        side = 0 if _is_scale(layer) else 1
        linears = [p for p, m in twin.named_modules() if isinstance(m, nn.Linear) and m.weight.shape[side] == len(gain)]
        for n in range(len(linears), 0, -1):
            tried = [_with_folded(twin, path, some, fold) for some in itertools.combinations(linears, n)]
            right = [other for other in tried if agree([other(x)], [block(x)])]
            if right:
                twin = right[0]
                break
    return twin


def _with_folded(block: nn.Module, path: str, linears: Sequence[str], fold: Callable[[Any, Any], None]) -> nn.Module:
    twin = copy.deepcopy(block)
    layer: Any = twin.get_submodule(path)
    for name in linears:
        fold(layer, twin.get_submodule(name))
    for name, own in layer.named_parameters(recurse=False):
        own.fill_(0.0 if name == "bias" else 1.0)
    return twin


def _norm_into(norm: Any, linear: Any) -> None:
    """``linear`` reads what ``norm`` scales and shifts."""
    shift = getattr(norm, "bias", None)
    if shift is not None and linear.bias is None and bool(shift.any()):
        linear.bias = nn.Parameter(torch.zeros(linear.out_features))
    if shift is not None and linear.bias is not None:
        linear.bias += linear.weight @ shift
    linear.weight *= norm.weight


def _scale_into(scale: Any, linear: Any) -> None:
    """``scale`` scales what ``linear`` makes."""
    linear.weight *= scale.gamma[:, None]
    if linear.bias is not None:
        linear.bias *= scale.gamma


def _is_scale(module: nn.Module) -> bool:
    gamma = getattr(module, "gamma", None)
    return isinstance(gamma, nn.Parameter) and gamma.dim() == 1 and not isinstance(module, NORMS)
