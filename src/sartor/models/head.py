"""The last layer of a classifier, for data of another number of classes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph import trace
from sartor.models.weights import load_weights


def outputs(network: nn.Module, example: Tensor) -> int:
    """How many logits ``network`` gives for an image. Raises InputError where it does not run, or gives none."""
    kind = type(network).__name__
    try:
        with torch.no_grad():
            logits = network(example)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{kind} does not run on images of {tuple(example.shape[1:])}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise InputError(f"{kind} gives no logits [n, classes]: only classifiers are cut to fit images")
    return int(logits.shape[1])


def with_head(network: nn.Module, example: Tensor, classes: int) -> bool:
    """Give ``network``, in place, a last layer of ``classes`` outputs: a fresh one where it has another number.

    Whether it is fresh. Raises InputError where the network gives no logits [n, classes] for ``example``, or its last
    layer is not a linear one.
    """
    kind, have = type(network).__name__, outputs(network, example)
    if have == classes:
        return False
    last = [call for call in trace(network, example).calls if call.op == "aten.linear.default"][-1:]
    if not last or last[0].shape[-1] != have:
        raise InputError(
            f"{kind} tells {have} classes apart and the data have {classes}: "
            "its last layer is not a linear one, so give a model with as many outputs"
        )
    path = last[0].where
    layer: Any = network.get_submodule(path)
    owner, _, name = path.rpartition(".")
    fresh = nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
    setattr(network.get_submodule(owner) if owner else network, name, fresh)
    return True


def fitted(
    network: nn.Module, example: Tensor, classes: int, weights: str | Path | None
) -> Literal["own", "new", "fresh"]:
    """Load ``weights`` into ``network`` and give it as many outputs as there are ``classes``, whichever way round they
    fit: weights of many classes lose their last layer, weights of these classes bring it.

    Returns whether the last layer is the network's ``own``, a ``new`` one with the weights' values, or a ``fresh`` one.
    Raises InputError where neither way fits.
    """
    if weights is not None:
        try:
            load_weights(network, weights)
        except InputError as first:
            twin = copy.deepcopy(network)
            try:
                replaced = with_head(twin, example, classes)
                load_weights(twin, weights)
            except InputError:
                raise first from None
            with_head(network, example, classes)
            load_weights(network, weights)
            return "new" if replaced else "own"
    return "fresh" if with_head(network, example, classes) else "own"
