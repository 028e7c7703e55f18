"""Smaller modules: the model's own classes with smaller tensors, or, where its code does not allow it, its graph."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree

from sartor.graph.capture import evaluating

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Of the output's scale: how far the classes' code may be from the sliced graph to pass for it. They run the same
operators on the same numbers."""


@dataclass(frozen=True)
class Change:
    """A constant of an operator in module ``where`` that stands for a dimension: its value before and after the cut."""

    where: str
    name: str
    before: Any
    after: Any


def sliced_tensors(tensors: Mapping[str, Tensor], kept: Mapping[str, tuple[Tensor | None, ...]]) -> dict[str, Tensor]:
    """``tensors`` sliced to ``kept`` indices of each dimension (None: all of them); those that are one stay one."""
    done: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in done:
            done[id(tensor)] = slice_tensor(tensor, kept[name])
    return {name: done[id(tensor)] for name, tensor in tensors.items()}


def smaller(model: nn.Module, sliced: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``model`` with the tensors of ``sliced`` in the place of its own.

    Tensors that are tied in the model are tied in the copy. What layers compute before each call (torch's older weight
    norm keeps it as an attribute) is no part of the model: it cannot be copied, and is computed anew.
    """
    memo: dict[int, Any] = {
        id(value): value.detach()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    for name, tensor in sliced.items():
        try:
            own = operator.attrgetter(name)(model)
        except AttributeError:  # a constant written in the code
            continue
        if id(own) not in memo and isinstance(own, Tensor):
            memo[id(own)] = tensor
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                with torch.no_grad():
                    setattr(module, hook.name, hook.compute_weight(module))
    return copied


def slice_tensor(tensor: Tensor, indices: Iterable[Tensor | None]) -> Tensor:
    """A copy of ``tensor`` with the given indices of each dimension (None: all); a parameter where it is one."""
    data = tensor.detach()
    for dim, index in enumerate(indices):
        if index is not None:
            data = data.index_select(dim, index.to(data.device))
    data = data.clone() if data.data_ptr() == tensor.data_ptr() else data
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad) if tensor.requires_grad else data


def set_sizes(model: nn.Module, changes: Iterable[Change], fits: Callable[[nn.Module], bool]) -> bool:
    """Put attributes of ``model``'s modules right that stand for sizes: those of torch's layers, and those of the
    model's own classes that have the value of a constant that changed. Whether ``fits`` says that the model is right
    then.

    A value may stand for two things, such as 4 heads of 4 channels of which 2 heads are left: then each attribute is
    tried with its new value and with its old one, alike in all modules of a class, until ``fits``; and then alike in
    those that have the same place in their blocks, for a class may be there for the first and for the last layer.
    """
    for module in model.modules():
        _own_sizes(module)
    found: list[tuple[str, nn.Module, str, list[Any]]] = []
    for where, group in itertools.groupby(sorted(changes, key=lambda c: c.where), key=lambda c: c.where):
        module = model.get_submodule(where) if where else model
        for name, values in _candidates(module, [c for c in group if not _has(module, c)]).items():
            found.append((where, module, name, values))
    by_class: dict[Any, list[tuple[nn.Module, str, list[Any]]]] = {}
    by_place: dict[Any, list[tuple[nn.Module, str, list[Any]]]] = {}
    for where, module, name, values in found:
        place = tuple(part for part in where.split(".") if not part.isdigit())
        by_class.setdefault((type(module), name), []).append((module, name, values))
        by_place.setdefault((type(module), name, place), []).append((module, name, values))
    if _try(by_class.values(), lambda: fits(model), _TRIALS):
        return True
    return len(by_place) > len(by_class) and _try(by_place.values(), lambda: fits(model), _TRIALS)


def _try(alike: Collection[list[tuple[nn.Module, str, list[Any]]]], fits: Callable[[], bool], trials: int) -> bool:
    """Set attributes, those of one list together, to every choice of their values in turn until it ``fits``."""
    counts = [range(max(len(values) for *_, values in held)) for held in alike]
    for choice in itertools.islice(itertools.product(*counts), trials):
        for held, index in zip(alike, choice, strict=True):
            for module, name, values in held:
                setattr(module, name, values[min(index, len(values) - 1)])
        if fits():
            return True
    return False


_TRIALS = 64
"""Ways to put attributes right that are tried, each at the price of a forward pass."""


def _own_sizes(module: nn.Module) -> None:
    """Sizes that torch's layers keep beside their tensors."""
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.conv._ConvTransposeNd):
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.conv._ConvNd):
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        held = next((t for t in (weight, module.running_mean) if t is not None), None)
        module.num_features = module.num_features if held is None else len(held)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = module.num_channels if weight is None else len(weight)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and weight is not None:
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)
    elif isinstance(module, nn.RNNBase):
        first: Any = module.weight_ih_l0, module.weight_hh_l0
        module.input_size, module.hidden_size = first[0].shape[1], first[1].shape[1]
        if module.proj_size:
            projection: Any = module.weight_hr_l0
            module.proj_size, module.hidden_size = projection.shape
    elif isinstance(module, nn.RNNCellBase):
        module.input_size, module.hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]
    elif isinstance(module, nn.Bilinear):
        module.out_features, module.in1_features, module.in2_features = weight.shape


def _has(module: nn.Module, change: Change) -> bool:
    """Whether a layer's attribute of the constant's own name is right already, or can be set."""
    if change.name in ("groups", "num_groups", "normalized_shape") and hasattr(module, change.name):
        after = tuple(change.after) if isinstance(change.after, list) else change.after
        setattr(module, change.name, after)
        _own_sizes(module)
        return True
    return False


def _candidates(module: nn.Module, changes: list[Change]) -> dict[str, list[Any]]:
    """By name of an attribute that may have to change: its possible values, changed ones first."""
    new: dict[int, list[int]] = {}
    for change in changes:
        before, after = (v if isinstance(v, (list, tuple)) else [v] for v in (change.before, change.after))
        for old, now in zip(before, after, strict=False):
            if isinstance(old, int) and isinstance(now, int) and old > 1 and now not in new.setdefault(old, []):
                new[old].append(now)
    whole = {tuple(c.before): tuple(c.after) for c in changes if isinstance(c.before, (list, tuple))}
    found: dict[str, list[Any]] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training" or isinstance(value, bool):
            continue
        if isinstance(value, int):
            values: list[Any] = [*new.get(value, []), value]  # last: it may stand for something else
        elif not isinstance(value, (list, tuple)) or not value or not all(type(v) is int for v in value):
            continue
        elif tuple(value) in whole:  # the sizes of a split, as they stand
            values = [type(value)(whole[tuple(value)]), value]
        else:
            values = [type(value)(each) for each in zip(*(_padded(new.get(v, [v]), v, 2) for v in value), strict=True)]
        ordered = sorted(values, key=lambda v: v == value)
        if any(v != value for v in ordered):
            found[name] = ordered
    return found


def _padded(values: list[int], old: int, n: int) -> list[int]:
    """The changed value first, then the old one or the next."""
    ordered = sorted(values, key=lambda v: v == old)
    return (ordered + [ordered[-1]] * n)[:n]


def lively(model: nn.Module) -> dict[str, Tensor]:
    """Stand-ins for those of ``model``'s tensors that hide what the code does with them: zeros, as at the end of fresh
    residual branches, ones, values that are not finite, and matrices so faint that a softmax behind them is flat
    whatever its scale. With them networks are compared."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    by_id: dict[int, Tensor] = {}
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    for name, tensor in named:
        if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
            continue
        if id(tensor) not in by_id:
            low, high = (float(v) for v in tensor.detach().aminmax())
            varies = high - low > _FLAT * abs(high + low) / 2 and math.isfinite(high - low)
            if varies and max(-low, high) > _TINY:
                if (gain := _gain(tensor)) >= _FAINT:
                    continue
                found[name] = by_id[id(tensor)] = tensor.detach() / gain
                continue
            noise = torch.rand(tensor.shape, generator=generator).to(tensor)  # above 0: variances are among them
            by_id[id(tensor)] = torch.nan_to_num(tensor.detach(), posinf=1.0, neginf=-1.0) + 0.1 * noise
        found[name] = by_id[id(tensor)]
    return found


def _gain(tensor: Tensor) -> float:
    """How much larger a product with a matrix is than what goes in; 1 for vectors."""
    if tensor.dim() < 2:
        return 1.0
    return float(torch.linalg.vector_norm(tensor.detach().float())) / len(tensor) ** 0.5


_FAINT = 0.3
"""Of unit gain: fresh transformers of a few hundred channels have 0.3 to 0.5, narrower ones a tenth; trained ones 1."""

_FLAT = 1e-6
"""Of its mean: a tensor whose values differ by less is as good as constant."""

_TINY = 1e-2
"""A gain so small hides the branch behind it."""


def outputs_of(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], state: Mapping[str, Tensor] | None = None
) -> list[Tensor] | None:
    """What ``module``, with the tensors of ``state`` in the place of its own, says in eval mode; None where it cannot
    run."""
    with evaluating(module), torch.no_grad(), same_draws():
        try:
            said = functional_call(module, dict(state or {}), args, dict(kwargs))
        except Exception as error:  # whatever the model's own code raises on sizes it does not expect
            log.debug("%s cannot run after the cut: %s", type(module).__name__, error)
            return None
    return [t for t in pytree.tree_leaves(said) if isinstance(t, Tensor)]


@contextmanager
def same_draws() -> Iterator[None]:
    """Networks that draw numbers draw the same ones in here, and elsewhere what they would have."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def agree(found: list[Tensor] | None, expected: list[Tensor] | None) -> bool:
    """Whether both were said, and are the same within :data:`TOLERANCE`."""
    if found is None or expected is None or len(found) != len(expected):
        return False
    return all(_alike(a, b) for a, b in zip(found, expected, strict=True))


def _alike(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()) or not torch.equal(a[~finite].isnan(), b[~finite].isnan()):
        return False
    a, b = a[finite], b[finite]  # masked logits are infinite
    return not a.numel() or bool((a - b).abs().max() <= TOLERANCE * max(1e-12, float(b.abs().max())))
