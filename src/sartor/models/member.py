"""A network that ``fit`` shipped, made again from its folder: ``arch.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph import trace
from sartor.graph.replace import replace
from sartor.models.convnet import build, input_shape
from sartor.models.head import with_head
from sartor.models.kernels import crop_kernels
from sartor.models.pruned import WEIGHTS
from sartor.models.weights import load_weights

FILE, FRONT = "arch.json", "front.json"


def holds_member(folder: Path) -> bool:
    """Whether ``folder`` is a member's, or a run's that has come to its front."""
    return (folder / FILE).is_file() or (folder / FRONT).is_file()


Numbers = tuple[float, ...]


def open_member(
    folder: Path, open_model: Callable[[str], Any]
) -> tuple[nn.Module, tuple[int, int, int], tuple[Numbers, Numbers]]:
    """The network in ``folder`` with its weights, the shape of its images, and their mean and deviation by channel. Of
    a run, the member that is the most accurate on the validation images.

    Raises InputError where a file of it is missing or damaged, or it was cut from a network that has no name.
    """
    try:
        if not (folder / FILE).is_file():
            front = json.loads((folder / FRONT).read_text())["front"]
            best = max(front, key=lambda record: record["metrics"]["accuracy_val"])
            folder = folder / "models" / Path(best["name"]).name
        held = json.loads((folder / FILE).read_text())
        arch, about, cut = held["arch"], held["preprocessing"], held.get("cut")
        channels, classes = int(about["channels"]), len(about["classes"])
        normalised = tuple(map(float, about["mean"])), tuple(map(float, about["std"]))
        if cut is None:
            network: nn.Module = build(arch, channels=channels, classes=classes, full_resolution=about["resolution"])
            shape = input_shape(arch, channels)
        else:
            network, side = _cut(folder, cut, open_model), int(cut["side"])
            shape = (channels, side, side)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{folder} is damaged ({type(error).__name__}: {error})") from error
    load_weights(network, folder / WEIGHTS)
    return network.eval(), shape, normalised


def example_of(channels: int, side: int) -> torch.Tensor:
    """Two square images of noise, always the same: what a given network is traced on, here as where it was cut."""
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


def _cut(folder: Path, cut: dict[str, Any], open_model: Callable[[str], Any]) -> nn.Module:
    """The network that was given to ``fit``, cut as the member was."""
    if cut["model"] is None:
        raise InputError(f"{folder} was cut from a module that has no name: load {WEIGHTS} where that is made")
    whole = open_model(cut["model"])
    network: nn.Module = whole.module.eval().float().cpu()
    example = example_of(*whole.image_shape[:2])
    if cut["classes"] is not None:
        with_head(network, example, cut["classes"])
    network = trace(network, example).slice(cut["keep"])
    for path in cut["removed"]:
        replace(network, path, nn.Identity())
    gone = tuple(f"{path}." for path in cut["removed"])
    crop_kernels(network, {path: k for path, k in cut["kernels"].items() if not f"{path}.".startswith(gone)})
    return network
