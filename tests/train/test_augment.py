"""Augmentation against a slow loop over images and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sartor.train.augment import Preprocess, crop_and_flip, mirror

seeds = st.integers(0, 2**63 - 1)


def pictures(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Every pixel of an image differs from the others, so that a wrong index shows."""
    values = np.arange(batch * channels * height * width, dtype=np.int64).reshape(batch, channels, height, width)
    return torch.from_numpy((values * 37 % 251).astype(np.uint8))


def shifted(image: np.ndarray, down: int, right: int, flipped: bool) -> np.ndarray:
    """One image seen through a window that is moved by (down, right) over its reflection, then mirrored."""
    pad = max(abs(down), abs(right))
    wide = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    _, height, width = image.shape
    seen = wide[:, pad + down : pad + down + height, pad + right : pad + right + width]
    return seen[:, :, ::-1] if flipped else seen


@settings(max_examples=60)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(0, 4),
    st.booleans(),
    seeds,
)
def test_each_image_is_one_of_its_shifts(batch, channels, height, width, shift, flip, seed):
    """By search over all shifts in reach: each output is one of them, and never mirrored unless asked."""
    images = pictures(batch, channels, height, width)
    out = crop_and_flip(images, seed, shift=shift, flip=flip)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    reach = range(-min(shift, height - 1, width - 1), min(shift, height - 1, width - 1) + 1)
    for image, found in zip(images.numpy(), out.numpy(), strict=True):
        candidates = [
            shifted(image, down, right, mirrored) for down in reach for right in reach for mirrored in {False, flip}
        ]
        assert any(np.array_equal(found, candidate) for candidate in candidates)


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(4, 9), st.integers(4, 9), st.integers(0, 3), st.booleans(), seeds)
def test_a_slow_loop_with_the_same_draws_gives_the_same(batch, height, width, shift, flip, seed):
    images = pictures(batch, 3, height, width)
    generator = torch.Generator().manual_seed(seed)
    downs, rights = (
        torch.randint(0, 2 * shift + 1, (batch, 1), generator=generator).flatten() - shift for _ in range(2)
    )
    mirrored = (torch.rand(batch, 1, generator=generator) < 0.5).flatten() & flip
    draws = zip(images.numpy(), downs.tolist(), rights.tolist(), mirrored.tolist(), strict=True)
    expected = np.stack([shifted(*draw) for draw in draws])
    assert np.array_equal(crop_and_flip(images, seed, shift=shift, flip=flip).numpy(), expected)


@given(seeds)
def test_without_shift_and_flip_nothing_changes_and_seeds_repeat(seed):
    images = pictures(3, 1, 5, 5)
    assert torch.equal(crop_and_flip(images, seed, shift=0, flip=False), images)
    a, b = (crop_and_flip(images, seed, shift=2, flip=True) for _ in range(2))
    assert torch.equal(a, b)


def test_shifts_are_uniform_and_half_the_images_mirrored():
    images = pictures(1, 1, 6, 6).expand(4000, -1, -1, -1)
    out = crop_and_flip(images, 0, shift=1, flip=True)
    kinds = {
        shifted(images[0].numpy(), down, right, flipped).tobytes(): (down, right, flipped)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        for flipped in (False, True)
    }
    counts = dict.fromkeys(kinds.values(), 0)
    for image in out.numpy():
        counts[kinds[image.tobytes()]] += 1
    assert len(counts) == 18
    expected = 4000 / 18
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


@settings(max_examples=30)
@given(st.sampled_from([1, 3]), seeds)
def test_preprocess_normalises_channel_by_channel(channels, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, channels, 4, 5), dtype=np.uint8)
    mean, std = rng.random(channels), 0.1 + rng.random(channels)
    out = Preprocess(tuple(mean.tolist()), tuple(std.tolist()))(torch.from_numpy(images))
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    expected = (images / 255.0 - mean[None, :, None, None]) / std[None, :, None, None]
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_mirror(channels):
    images = pictures(2, channels, 3, 4)
    assert np.array_equal(mirror(images).numpy(), images.numpy()[..., ::-1])
    assert torch.equal(mirror(mirror(images)), images)
