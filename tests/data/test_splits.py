from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.splits import ids_sha256, make_splits
from sartor.errors import InputError

LABELS = st.lists(st.integers(3, 60), min_size=2, max_size=5).flatmap(
    lambda sizes: st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()).map(np.asarray)
)


@given(LABELS, st.floats(0.01, 0.45), st.floats(0.01, 0.45), st.integers(0, 2**32))
def test_splits_are_a_stratified_partition(labels, val, test, seed):
    k = labels.max() + 1
    names = [str(i) for i in range(k)]
    rows = make_splits(labels, names, {"val": val, "test": test}, seed)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(labels)))
    n_class = np.bincount(labels)
    for split, fraction in (("val", val), ("test", test), ("train", 1 - val - test)):
        found = np.bincount(labels[rows[split]], minlength=k)
        assert (found >= 1).all()
        assert (np.abs(found - fraction * n_class) <= 2).all()  # a rounding of one for each of two splits


@given(LABELS, st.integers(0, 2**32))
def test_splits_repeat_by_seed(labels, seed):
    names = [str(i) for i in range(labels.max() + 1)]
    first, again = (make_splits(labels, names, {"val": 0.2}, seed) for _ in range(2))
    assert all((first[split] == again[split]).all() for split in first)


def test_another_seed_divides_differently():
    labels = np.repeat([0, 1], 50)
    chosen = [set(make_splits(labels, ["a", "b"], {"val": 0.2}, seed)["val"].tolist()) for seed in range(3)]
    assert len({frozenset(rows) for rows in chosen}) == 3


def test_nothing_to_make_keeps_every_row():
    rows = make_splits(np.repeat([0, 1], 5), ["a", "b"], {}, 0)
    assert list(rows) == ["train"]
    assert sorted(rows["train"].tolist()) == list(range(10))


def test_any_beginning_of_a_split_is_mixed():
    rows = make_splits(np.repeat(np.arange(10), 100), [str(i) for i in range(10)], {"val": 0.1}, 0)
    assert len({row // 100 for row in rows["train"][:100].tolist()}) == 10


def test_too_few_of_a_class_is_named():
    with pytest.raises(InputError, match="'rare' has 2 images, too few to make train and val and test"):
        make_splits(np.asarray([0] * 9 + [1] * 2), ["usual", "rare"], {"val": 0.1, "test": 0.1}, 0)


def test_hash_knows_members_not_their_order():
    assert ids_sha256(["b", "a"]) == ids_sha256(["a", "b"]) != ids_sha256(["a", "c"])
