from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.batches import in_order, shuffled
from sartor.data.decoders import Decoders
from sartor.data.images import Bad, InMemory, Streamed
from sartor.errors import InputError


def numbered(n: int) -> InMemory:
    """n images of one pixel that holds its own number."""
    return InMemory(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), np.arange(n), np.arange(n))


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32), st.integers(0, 40))
def test_starting_late_gives_what_would_have_come(n, batch_size, seed, start):
    whole = list(islice(shuffled(numbered(n), batch_size, seed=seed), start + 5))
    late = list(islice(shuffled(numbered(n), batch_size, seed=seed, start=start), 5))
    for (x, y), (late_x, late_y) in zip(whole[start:], late, strict=True):
        assert torch.equal(x, late_x)
        assert torch.equal(y, late_y)


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32))
def test_an_epoch_shows_no_image_twice_and_labels_stay_with_images(n, batch_size, seed):
    size = min(n, batch_size)
    for epoch in range(2):
        batches = list(islice(shuffled(numbered(n), batch_size, seed=seed, start=epoch * (n // size)), n // size))
        assert all(len(x) == size and torch.equal(x.flatten().long(), y) for x, y in batches)
        assert len(set(torch.cat([y for _, y in batches]).tolist())) == size * (n // size)


def test_epochs_and_seeds_differ():
    def epoch(seed, start):
        return next(shuffled(numbered(40), 40, seed=seed, start=start))[1].tolist()

    orders = [epoch(seed, start) for seed in (0, 1) for start in (0, 1)]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))


@given(st.integers(1, 50), st.integers(1, 60))
def test_in_order_shows_each_image_once(n, batch_size):
    batches = list(in_order(numbered(n), batch_size))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(n))
    assert torch.cat([x for x, _ in batches]).flatten().tolist() == list(range(n))
    assert all(len(y) == batch_size for _, y in batches[:-1])


def test_what_is_skipped_is_not_read(write, images):
    x, y = images
    folder = write.folder(x, y)
    order = np.random.default_rng([7, 0]).permutation(60)  # the order shuffled() promises for seed 7, epoch 0
    files = np.asarray(sorted(map(str, folder.rglob("*.png"))), dtype=object)
    files[order[:50]] = "/not/there.png"
    bad = Bad(60)
    decoders = Decoders(1, 3, 12)
    streamed = Streamed(files.tolist(), files.tolist(), np.arange(60), y, decoders, bad)
    found, labels = next(shuffled(streamed, 10, seed=7, start=5))
    assert (found.numpy() == x.transpose(0, 3, 1, 2)[order[50:]]).all()
    assert (labels.numpy() == y[order[50:]]).all()
    assert not bad.reasons
    decoders.close()


def test_batches_are_copies():
    images = numbered(4)
    next(in_order(images, 4))[0].zero_()
    assert next(in_order(images, 4))[0].flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("batch_size", "start"), [(0, 0), (-1, 0), (1, -1)])
def test_impossible_batches_are_refused(batch_size, start):
    with pytest.raises(InputError, match="batch_size"):
        shuffled(numbered(3), batch_size, seed=0, start=start)
