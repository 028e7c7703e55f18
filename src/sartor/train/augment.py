"""Seeded augmentation and normalisation of uint8 batches, on whichever device they lie on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sartor.errors import InputError
from sartor.models.torchvision_ops import define_missing_ops


@dataclass(frozen=True)
class Preprocess:
    """uint8 [b, C, H, W] → normalised float32, channels last. ``mean`` and ``std`` a channel, of images in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) * 255 for v in (self.mean, self.std))
        return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def crop_and_flip(images: Tensor, seed: int, *, shift: int, flip: bool) -> Tensor:
    """Shift each image by up to ``shift`` pixels each way (reflected borders) and mirror half of them.

    uint8 [b, C, H, W] → uint8 of the same shape: the same for the same seed, on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = images.shape
    shift = min(shift, height - 1, width - 1)
    rows = torch.randint(0, 2 * shift + 1, (batch, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 2 * shift + 1, (batch, 1), generator=generator) + torch.arange(width)
    mirrored = torch.rand(batch, 1, generator=generator) < 0.5
    if flip:
        columns = torch.where(mirrored, columns.flip(1), columns)
    # reflection_pad2d takes no uint8; indices reflect just as well and copy once.
    rows, columns = (_reflect(index - shift, size) for index, size in ((rows, height), (columns, width)))
    device = images.device
    picked = images.permute(0, 2, 3, 1)[
        torch.arange(batch, device=device)[:, None, None], rows.to(device)[:, :, None], columns.to(device)[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def mirror(images: Tensor) -> Tensor:
    """Every image mirrored left to right."""
    return torch.flip(images, (-1,))


OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
"""RandAugment's, in timm's words; of the published code's, cutting out is missing, as in timm."""
_STRONGEST = 20


def rand_augment(images: Tensor, seed: int, *, magnitude: float = 10, layers: int = 2) -> Tensor:
    """``layers`` operations an image, drawn out of ``OPERATIONS``, each applied with a chance of a half at
    ``magnitude``, in tenths of its range. Nothing is mirrored.

    uint8 [b, 1 or 3, H, W] → uint8 of the same shape and device: the same for the same seed. RandAugment
    (arXiv:1909.13719 §3), with timm's operations on Pillow's images: on the CPU, a tenth of a millisecond an image.
    Posterising is left out below a magnitude of 2.5, where it would leave no bit. Raises InputError for other numbers
    of channels, magnitudes beyond 20, which is twice the range, and layers below 1.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise InputError(f"RandAugment is for grey or colour images, not {channels} channels: leave it out")
    if not 0 <= magnitude <= _STRONGEST or layers < 1:
        raise InputError(
            f"RandAugment takes a magnitude from 0 to {_STRONGEST} and at least one layer, not {magnitude} and {layers}"
        )
    operations = _operations(float(magnitude), channels)
    rows = images.cpu().permute(0, 2, 3, 1)
    changed = []
    with _seeded(seed):
        for pixels in (rows.squeeze(-1) if channels == 1 else rows).numpy():
            picture = Image.fromarray(pixels)
            for operation in random.choices(operations, k=layers):
                picture = operation(picture)
            changed.append(np.asarray(picture))
    whole = torch.from_numpy(np.stack(changed)).reshape(rows.shape)
    return whole.permute(0, 3, 1, 2).contiguous().to(images.device)


@cache
def _operations(magnitude: float, channels: int) -> list[Callable[[Image.Image], Image.Image]]:
    define_missing_ops()
    from timm.data.auto_augment import rand_augment_ops

    grey = 128  # what is shifted in: the middle, as in the published code
    options = {"img_mean": grey if channels == 1 else (grey,) * 3, "magnitude_max": _STRONGEST}
    names = [name for name in OPERATIONS if name != "Posterize" or magnitude >= 2.5]
    return list(rand_augment_ops(magnitude, hparams=options, transforms=names))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """timm draws from the process's generator: it is as before afterwards."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
