"""Weights from a file into a model: safetensors only."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from sartor.errors import InputError

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load ``path`` into ``module``, every tensor of it.

    Raises InputError where the file is no safetensors file (a pickle runs code when it is read, and is refused), or its
    tensors are not those of the model.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file} is missing")
    if file.suffix.lower() in PICKLES:
        raise InputError(
            f"{file} is a pickle, which can run code when it is read. Convert it once, where you trust it: "
            f"safetensors.torch.save_file(torch.load({str(file)!r}, weights_only=True), "
            f"{str(file.with_suffix('.safetensors'))!r})"
        )
    try:
        state = load_file(file)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{file} cannot be read as a safetensors file: {error}") from error
    own = module.state_dict()
    for name, tensor in own.items():  # tied tensors are in a file once, under any of their names
        twins = [n for n in state if n in own and n != name and _same(own[n], tensor)]
        if name not in state and twins:
            state[name] = state[twins[0]]
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        what = [f"{name} is missing" for name in missing[:1]] + [f"{name} is not in the model" for name in extra[:1]]
        raise InputError(f"{file} does not fit {type(module).__name__}: {'; '.join(what)}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            sizes = f"{name} is {_shape(tensor)} there and {_shape(own[name])} here"
            raise InputError(f"{file} does not fit {type(module).__name__}: {sizes}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(f"{file}: {name} has values that are not finite")
    module.load_state_dict(state)


def to_bytes(module: nn.Module) -> bytes:
    """The tensors of ``module`` as a safetensors file; tied ones once, under the first of their names."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        if not any(_same(tensor, other) for other in state.values()):
            state[name] = tensor
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two names are of one tensor."""
    return one.numel() > 0 and one.data_ptr() == other.data_ptr() and one.shape == other.shape


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
