"""A network that the person brings, as the space to fit: checked against the data, made elastic over its own weights.

Fine-tuned as a supernet with in-place distillation from the network as it came (InstaTune, P446, arXiv:2308.15609),
searched and cut like any other.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sartor.data import Dataset
from sartor.errors import InputError
from sartor.models.elastic import Elastic, elastify
from sartor.models.head import fitted
from sartor.models.member import example_of
from sartor.models.pruned import WEIGHTS, absolute
from sartor.models.zoo import Opened, open_model
from sartor.records import Arch

WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
"""Shares of a group that an arch may keep."""


@dataclass(frozen=True)
class Given:
    """The network as it came (``original``, which nothing trains), as a supernet, and how its images are normalised, by
    channel, where that is known. ``side``: pixels of its images. ``spec``: its name, where it has one; ``classes``: of
    its last layer, where that was replaced; ``fresh``: by one that knows nothing."""

    original: nn.Module
    elastic: Elastic
    side: int
    spec: str | None = None
    classes: int | None = None
    fresh: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def untouched(self, arch: Arch) -> nn.Module:
        """The network of ``arch`` with the weights as they came, whatever the supernet has learnt."""
        twin = copy.deepcopy(self.elastic)
        twin.model.load_state_dict(self.original.state_dict())
        return twin.extract(arch)

    def cut(self, arch: Arch) -> dict[str, Any]:
        """How ``arch``'s network is made from the one that was given, JSON-able (see :mod:`sartor.models.member`)."""
        return {
            "model": self.spec,
            "side": self.side,
            "classes": self.classes,
            "keep": self.elastic.cut(arch).to_dict(),
            "removed": list(self.elastic.removed(arch)),
            "kernels": self.elastic.kernels(arch),
        }


def name_of(model: Any, weights: str | Path | None) -> str | None:
    """What a run writes down of the network it was given: its name, and a hash of its weights."""
    if model is None:
        return None
    if not isinstance(model, (str, nn.Module)):
        raise InputError(f"a model is a name such as timm:resnet18 or a torch.nn.Module, not {type(model).__name__}")
    digest = hashlib.sha256()
    if isinstance(model, str):
        source = Path(model.rpartition(":")[0])
        files = [source] if source.suffix == ".py" else []
        files += [Path(model) / WEIGHTS] if Path(model).is_dir() else []
        if weights is not None and not Path(weights).is_file():
            raise InputError(f"{weights} is missing")
        files += [] if weights is None else [Path(weights)]
        found = [file for file in files if file.is_file()]
        for file in found:
            with file.open("rb") as held:
                for part in iter(lambda: held.read(2**20), b""):
                    digest.update(part)
        return f"{absolute(model)} {digest.hexdigest()[:16]}" if found else absolute(model)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"{type(model).__name__} {digest.hexdigest()[:16]}"


def open_given(model: str | nn.Module, weights: str | Path | None, dataset: Dataset) -> Given:
    """``model`` with ``weights``, for the images and classes of ``dataset``.

    Raises InputError where they do not fit together.
    """
    if isinstance(model, str):
        opened = open_model(model)
    else:
        shape = (dataset.channels, dataset.resolution, dataset.resolution)
        opened = Opened(copy.deepcopy(model), (torch.zeros(1, *shape),))
    network, (channels, height, width) = opened.module.eval().float().cpu(), opened.image_shape
    kind = type(network).__name__
    if channels != dataset.channels:
        raise InputError(f"{kind} takes {channels} channels, and the images have {dataset.channels}")
    if height != width:
        raise InputError(f"{kind} takes images of {height}x{width}: only square ones are cut to fit")
    head = fitted(network, torch.zeros(2, channels, height, width), len(dataset.classes), weights)
    noise = example_of(channels, height)
    with torch.no_grad():
        said = copy.deepcopy(network).train()(noise)
    if not isinstance(said, Tensor):
        raise InputError(
            f"{kind} returns {type(said).__name__} in training: build it without auxiliary outputs, which a cut cannot "
            "follow"
        )
    original = copy.deepcopy(network)
    known = opened.mean is not None and opened.std is not None and len(opened.mean) == channels == len(opened.std)
    elastic = elastify(network, noise, widths=WIDTHS, resolutions=(height,))
    return Given(
        original,
        elastic,
        height,
        spec=absolute(model) if isinstance(model, str) else None,
        classes=None if head == "own" else len(dataset.classes),
        fresh=head == "fresh",
        mean=opened.mean if known else None,
        std=opened.std if known else None,
    )
