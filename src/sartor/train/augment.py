"""Seeded augmentation and normalisation of uint8 batches, on whichever device they lie on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
