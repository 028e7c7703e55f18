"""Models by name: timm's, torchvision's, transformers', and those a user's own file makes. Nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.models.detector import Detector
from sartor.models.member import holds_member, open_member
from sartor.models.pruned import FILE, open_pruned
from sartor.models.torchvision_ops import define_missing_ops

DEFAULT_SHAPE = (3, 224, 224)
LARGER = {"inception_v3": (3, 299, 299)}
"""torchvision's models that are made for other images than :data:`DEFAULT_SHAPE`."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A model with fresh weights and example inputs of batch 1: positional arguments, or arguments by name.

    ``mean`` and ``std`` by channel: how its images, in [0, 1], are normalised, where that is known.
    """

    module: nn.Module
    inputs: tuple[Any, ...] | dict[str, Any]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its input. Raises InputError where it does not take one batch of images."""
        first = next(iter(self.inputs.values() if isinstance(self.inputs, dict) else self.inputs), None)
        if len(self.inputs) != 1 or not isinstance(first, Tensor) or first.dim() != 4:
            raise InputError(f"{type(self.module).__name__} does not take one batch of images")
        return (int(first.shape[1]), int(first.shape[2]), int(first.shape[3]))


def open_model(spec: str) -> Opened:
    """The model that ``spec`` names, with fresh weights.

    ``timm:NAME``, ``torchvision:NAME``, ``torchvision.segmentation:NAME``, ``torchvision.detection:NAME``,
    ``transformers:NAME`` (a model type such as ``bert``, or a class), or ``file.py:function``, whose function returns
    an ``nn.Module``, or one and its image shape (C, H, W) or its example inputs (a tuple or dict of tensors); without,
    the function's or module's ``input_shape`` or 3x224x224 is taken, and its ``mean`` and ``std`` by channel where it
    has them. The function's file is executed. Detectors come up to their heads, as a
    :class:`~sartor.models.detector.Detector`. Folders are models too, the only ones that have their weights: what
    ``sartor prune`` wrote, a run of ``sartor fit`` (its most accurate network), and one network of it.

    Raises InputError when it cannot be found or built.
    """
    source, _, name = spec.partition(":")
    if source in SOURCES and name:
        return SOURCES[source](name)
    if (Path(spec) / FILE).is_file():
        opened = open_pruned(Path(spec), open_model)
        assert isinstance(opened, Opened)
        return opened
    if holds_member(Path(spec)):
        module, shape, (mean, std) = open_member(Path(spec), open_model)
        return replace(_images(module, shape), mean=mean, std=std)
    return _from_file(spec)


def _timm(name: str) -> Opened:
    define_missing_ops()
    timm = _library("timm")
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"timm has no model {name!r}{_near(name, timm.list_models())}")
    try:
        module = timm.create_model(name, pretrained=False)
    except (RuntimeError, ValueError) as error:  # an unknown tag after the dot
        raise InputError(f"timm cannot build {name!r}: {(str(error) or repr(error)).splitlines()[0]}") from error
    _fill_zero_gains(module)
    about = getattr(module, "pretrained_cfg", {})
    opened = _images(module, about.get("input_size", DEFAULT_SHAPE))
    return replace(opened, mean=about.get("mean"), std=about.get("std"))


def _torchvision(name: str) -> Opened:
    module = _torchvision_module(name, "torchvision.models")
    _fill_zero_gains(module)
    return _images(module, LARGER.get(name, DEFAULT_SHAPE))


def _segmentation(name: str) -> Opened:
    module = _torchvision_module(name, "torchvision.models.segmentation", weights_backbone=None)
    return _images(module, DEFAULT_SHAPE)


def _detection(name: str) -> Opened:
    whole: Any = _torchvision_module(name, "torchvision.models.detection", weights_backbone=None)
    module = Detector(whole)
    mean, std = (_by_channel(given) for given in (whole.transform.image_mean, whole.transform.image_std))
    return replace(_images(module, module.image_shape), mean=mean, std=std)


def _torchvision_module(name: str, package: str, **options: Any) -> nn.Module:
    define_missing_ops()
    _library("torchvision")
    models = importlib.import_module("torchvision.models")
    known = models.list_models(importlib.import_module(package))
    if name not in known:
        raise InputError(f"{package} has no model {name!r}{_near(name, known)}")
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # minutes of truncated normals from SciPy
    module = models.get_model(name, weights=None, **options)
    assert isinstance(module, nn.Module)
    return module


def _transformers(name: str) -> Opened:
    define_missing_ops()  # transformers imports torchvision where it is installed
    transformers = _library("transformers")
    if name in transformers.CONFIG_MAPPING:
        module = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name))
    elif hasattr(transformers, name):
        kind = getattr(transformers, name)
        if not hasattr(kind, "config_class") or not issubclass(kind, nn.Module):
            raise InputError(f"transformers.{name} is no model: name a model type such as bert, or a model's class")
        module = kind(kind.config_class())
    else:
        raise InputError(f"transformers has no model {name!r}{_near(name, transformers.CONFIG_MAPPING)}")
    return Opened(module, _transformers_inputs(module))


def _transformers_inputs(module: Any) -> dict[str, Tensor]:
    """What the model's own first input is called, and a small batch of it."""
    config = module.config
    name = module.main_input_name
    if name == "pixel_values":
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return {name: torch.randn(1, getattr(config, "num_channels", 3), height, width)}
    if name in ("input_values", "input_features"):
        return {name: torch.randn(1, 16000) if name == "input_values" else torch.randn(1, 80, 3000)}
    ids = torch.arange(16).remainder(getattr(config, "vocab_size", 16)).reshape(1, 16)
    inputs = {name: ids}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids[:, :8]
    return inputs


def _from_file(spec: str) -> Opened:
    source, _, name = spec.rpartition(":")
    if not source.endswith(".py") or not name:
        raise InputError(f"{spec!r} is no model: write timm:NAME, torchvision:NAME or FILE.py:FUNCTION")
    if not Path(source).is_file():
        raise InputError(f"{source} is missing")
    found = importlib.util.spec_from_file_location("measured_model", source)
    if found is None or found.loader is None:
        raise InputError(f"{source} cannot be read as Python")
    namespace = importlib.util.module_from_spec(found)
    sys.modules[found.name] = namespace  # where dataclasses and typing look their module up
    try:
        found.loader.exec_module(namespace)
    except Exception as error:  # the user's own code
        raise InputError(f"{source} fails: {type(error).__name__}: {error}") from error
    function = getattr(namespace, name, None)
    if not callable(function):
        raise InputError(f"{source} has no function {name}")
    try:
        built = function()
    except Exception as error:
        raise InputError(f"{spec} fails: {type(error).__name__}: {error}") from error
    module, given = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec} returns {type(module).__name__}: an nn.Module, or one and its shape, is needed")
    if given is None:
        given = getattr(function, "input_shape", None) or getattr(module, "input_shape", None) or DEFAULT_SHAPE
    mean, std = (getattr(function, name, None) or getattr(module, name, None) for name in ("mean", "std"))
    return replace(_opened(module, given), mean=_by_channel(mean), std=_by_channel(std))


def _by_channel(values: Any) -> tuple[float, ...] | None:
    """Numbers, where they are."""
    listed = isinstance(values, (tuple, list)) and all(isinstance(v, (int, float)) for v in values)
    return tuple(float(v) for v in values) if listed else None


def _opened(module: nn.Module, given: Any) -> Opened:
    if isinstance(given, dict) or (isinstance(given, tuple) and any(isinstance(value, Tensor) for value in given)):
        return Opened(module, given)
    return Opened(module, (given,)) if isinstance(given, Tensor) else _images(module, given)


def _images(module: nn.Module, shape: Any) -> Opened:
    try:
        channels, height, width = (int(size) for size in shape)
    except (TypeError, ValueError) as error:
        raise InputError(f"an image shape is three numbers (channels, height, width), not {shape!r}") from error
    return Opened(module, (torch.randn(1, channels, height, width),))


def _fill_zero_gains(module: nn.Module) -> None:
    """Residual branches that start at zero fold to all-zero convolutions, which the exporter stores only once: the
    file of a fresh resnet18 was a quarter too small. A trained one has no such zeros."""
    for name, parameter in module.named_parameters():
        known = not parameter.is_meta  # one that is built for its sizes alone has no numbers
        if known and parameter.ndim == 1 and name.endswith("weight") and not parameter.detach().any():
            parameter.data.fill_(1.0)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise InputError(f"{name}: models need {name}: pip install {name}") from error


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3)
    return f": did you mean {', '.join(near)}?" if near else ""


SOURCES: dict[str, Callable[[str], Opened]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "torchvision.segmentation": _segmentation,
    "torchvision.detection": _detection,
    "transformers": _transformers,
}
