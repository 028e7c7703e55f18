"""Who is in train, val and test: made where missing, stratified by class and seeded; checked where given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from sartor.data.listing import Listing
from sartor.errors import InputError


def check_labels(listing: Listing) -> None:
    """Raise InputError unless there are two classes or more, all labels name one, and every part has them all."""
    k = len(listing.classes)
    for split, part in listing.parts.items():
        labels = part.labels
        if not len(labels):
            raise InputError(f"{split} of {listing.name} is empty: add images, or remove it and it will be made")
        outside = labels[(labels < 0) | (labels >= k)]
        if len(outside):
            raise InputError(
                f"label {outside[0]} in {split} is out of range ({len(outside)} such): labels run from 0 to {k - 1}"
            )
    if k < 2:
        raise InputError(f"{listing.name} has one class ({listing.classes[0]}): at least two are needed")
    for split, part in listing.parts.items():
        check_present(part.labels, listing.classes, split)


def check_present(labels: np.ndarray, classes: Sequence[str], split: str) -> None:
    """Raise InputError when a class has no image in a split."""
    absent = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(absent):
        names = ", ".join(repr(classes[i]) for i in absent[:3]) + (", …" if len(absent) > 3 else "")
        fix = "remove the class" if split == "train" else f"remove {split} and it will be made"
        raise InputError(f"{split} has no images of {names}: add some, or {fix}")


def make_splits(
    labels: np.ndarray, classes: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Divide rows 0..n-1 into ``train`` and the splits of ``fractions``, each class by itself, at least one of each.

    The same ``labels`` and ``seed`` give the same rows. Every split comes in a seeded random order, so that any first
    few of it are a fair sample (folders list class by class). Raises InputError when a class has too few images.
    """
    rows: dict[str, list[np.ndarray]] = {"train": [], **{split: [] for split in fractions}}
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        members = np.random.default_rng([seed, label]).permutation(members)
        if len(members) <= len(fractions):
            raise InputError(
                f"class {name!r} has {len(members)} images, too few to make {' and '.join(rows)} of: add more"
            )
        start = 0
        for i, (split, fraction) in enumerate(fractions.items()):
            left = len(members) - start - (len(fractions) - i)  # one for train, one for each split still to come
            n = min(max(1, round(fraction * len(members))), left)
            rows[split].append(members[start : start + n])
            start += n
        rows["train"].append(members[start:])
    return {
        split: np.random.default_rng([seed, len(classes), i]).permutation(np.concatenate(chosen))
        for i, (split, chosen) in enumerate(rows.items())
    }


def ids_sha256(ids: Sequence[str]) -> str:
    """The hash of a split: of its sorted member ids, one a line."""
    return hashlib.sha256("\n".join(sorted(ids)).encode("utf-8", "surrogateescape")).hexdigest()
