"""Coarse tokens first: a vision transformer's early training needs few of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn

from sartor.errors import InputError

STAGES = ((0.0, 2), (0.5, 1))
"""(progress, factor): tokens twice as far apart each way in the first half of a training, a quarter as many."""


@contextlib.contextmanager
def coarser(patches: nn.Conv2d, factor: int) -> Iterator[None]:
    """Within, the convolution that makes tokens ``[b, c, h, w] → [b, width, h', w']`` makes ``factor`` times fewer each
    way: its stride and its dilation are ``factor`` times what they were, its weights are the same and are trained.

    As-ViT's progressive tokenisation, Chen et al., P078 (arXiv:2202.11921 §3.5). The network has to take any number of
    tokens: timm's transformers do with ``dynamic_img_size=True``, which resamples their positions. Raises InputError
    for a factor under 1, or padding, which coarse tokens would see more of.
    """
    if factor < 1:
        raise InputError(f"tokens can be made coarser by 1 or more, not by {factor}")
    if factor > 1 and patches.padding not in ((0, 0), 0, "valid"):
        raise InputError(
            "tokens cannot be made coarser where their convolution pads the image: give one without padding"
        )
    stride, dilation = patches.stride, patches.dilation
    patches.stride = (stride[0] * factor, stride[1] * factor)
    patches.dilation = (dilation[0] * factor, dilation[1] * factor)
    try:
        yield
    finally:
        patches.stride, patches.dilation = stride, dilation


def factor_at(progress: float, stages: Sequence[tuple[float, int]] = STAGES) -> int:
    """The factor of the last stage that has begun at ``progress`` [0, 1]. Raises InputError where none has."""
    begun = [factor for start, factor in stages if start <= progress]
    if not begun:
        raise InputError(f"no stage has begun at {progress}: let the first begin at 0")
    return begun[-1]
