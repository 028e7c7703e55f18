"""Modules by their path."""

from __future__ import annotations

from torch import nn

from sartor.errors import InputError


def at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise InputError(f"{type(model).__name__} has no layer {path!r}") from error


def replace(model: nn.Module, path: str, new: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner) if owner else model, name, new)
