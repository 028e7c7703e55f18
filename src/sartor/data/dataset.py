"""``open_data``: from a folder, parquet, arrays or a built-in name to three splits that are ready to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sartor.data.arrays import list_arrays, list_digits, list_npz
from sartor.data.folder import list_folder
from sartor.data.images import Bad, Images
from sartor.data.listing import SPLITS, Listing
from sartor.data.loading import Progress, mean_std, open_images, working_shape
from sartor.data.parquet import list_parquet
from sartor.data.splits import check_labels, check_present, ids_sha256, make_splits
from sartor.disk import write_json
from sartor.errors import InputError
from sartor.machine import available_bytes


@dataclass(frozen=True)
class Dataset:
    """Labelled images in three splits, as uint8 squares ``[channels, resolution, resolution]``.

    ``mean`` and ``std`` are per channel over train (a streamed set: over 4,096 of it), for images scaled to [0, 1].
    ``fingerprint`` names the content: ``bytes-sha256:`` a hash of all files' relative paths, sizes and bytes (256 MiB
    or less), ``sizes-sha256:`` of their paths and sizes (larger sets), ``sample-sha256:`` of labels and 1,000 images
    (larger arrays). ``splits`` tells for each split ``n``, ``per_class``, ``sha256`` (of the sorted member ids) and
    ``made`` (by us rather than given; train too when others were taken out of it).
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    resolution: int
    train: Images
    val: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    splits: Mapping[str, Mapping[str, Any]]
    seed: int
    _ids: Mapping[str, tuple[Sequence[str], np.ndarray]] = field(repr=False)
    _bad: Bad = field(repr=False)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable images as ``id: reason``. A streamed set finds them as it goes."""
        return self._bad.listed()

    def members(self, split: str) -> list[str]:
        """The ids of a split in its order: relative paths, or row numbers."""
        if split not in self._ids:
            raise InputError(f"there is no split {split!r}: choose one of {', '.join(self._ids)}")
        ids, rows = self._ids[split]
        return [ids[row] for row in rows.tolist()]

    def write_splits(self, path: Path) -> None:
        """Write the splits as JSON, atomically; with the members' ids where we made the split."""
        splits = {
            split: {**about, **({"members": sorted(self.members(split))} if about["made"] else {})}
            for split, about in self.splits.items()
        }
        write_json(path, {"format": 1, "fingerprint": self.fingerprint, "seed": self.seed, "splits": splits})


def open_data(
    source: str | Path | Dataset | tuple[Any, Any],
    *,
    seed: int = 0,
    resolution: int | None = None,
    memory_share: float = 0.25,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Open labelled images and split them.

    ``source``: a folder of class folders (train, val, test folders above them are used), an ``.npz`` file with ``x``
    and ``y``, a parquet file or folder in the Hugging Face image layout, ``(x, y)`` arrays, or ``"digits"`` (write
    ``./digits`` for a folder of that name). Splits that are missing are taken out of train, stratified by class:
    ``val_fraction`` and ``test_fraction`` of it. The same content and ``seed`` give the same splits in the same order;
    every split comes in a seeded random order, so that any first few of it are a fair sample.

    ``resolution`` is the side images are brought to (shorter side resized, centre crop); by default the size all
    images share, else the median shorter side, at most 224. Images are grey (1 channel) when all of a sample are.

    Decoded sets up to ``memory_share`` of the available memory are held as uint8; larger ones are decoded from disk
    by ``workers`` processes (half the processors). ``on_progress(done, total)`` is called while images are decoded.

    Raises InputError, in one line, when there is nothing that can be trained on.
    """
    if isinstance(source, Dataset):
        if resolution not in (None, source.resolution):
            raise InputError(f"the data set is open at resolution {source.resolution}: open it again at {resolution}")
        return source
    _check_arguments(seed, resolution, memory_share, val_fraction, test_fraction, workers)
    budget_bytes = memory_share * available_bytes()
    listing = _list(source, budget_bytes)
    check_labels(listing)
    channels, side = working_shape(listing, resolution)
    made = {s: f for s, f in (("val", val_fraction), ("test", test_fraction)) if s not in listing.parts}
    taken = make_splits(listing.parts["train"].labels, listing.classes, made, seed)
    rows = {split: ("train", r) for split, r in taken.items()}
    for split in listing.parts.keys() - {"train"}:
        n = len(listing.parts[split].labels)
        rows[split] = (split, np.random.default_rng([seed, SPLITS.index(split)]).permutation(n))
    bad = Bad(sum(len(part.labels) for part in listing.parts.values()))
    opened = open_images(
        listing, rows, channels, side, budget_bytes=budget_bytes, workers=workers, bad=bad, on_progress=on_progress
    )
    ids = {split: (listing.parts[rows[split][0]].ids, opened[split][1]) for split in SPLITS}
    images = {split: opened[split][0] for split in SPLITS}
    for split in SPLITS:
        check_present(images[split].labels, listing.classes, split)
    changed = {*made, "train"} if made else set()
    mean, std = mean_std(images["train"], bad)
    return Dataset(
        name=listing.name,
        classes=listing.classes,
        channels=channels,
        resolution=side,
        train=images["train"],
        val=images["val"],
        test=images["test"],
        mean=mean,
        std=std,
        fingerprint=listing.fingerprint,
        splits={s: _about(images[s].labels, *ids[s], k=len(listing.classes), made=s in changed) for s in SPLITS},
        seed=seed,
        _ids=ids,
        _bad=bad,
    )


def look(source: str | Path | Dataset | tuple[Any, Any]) -> str:
    """What ``source`` holds, in a few words and without decoding it. Raises InputError as :func:`open_data` does."""
    if isinstance(source, Dataset):
        n, classes, side = len(source.train) + len(source.val) + len(source.test), source.classes, source.resolution
    else:
        listing = _list(source, 0.25 * available_bytes())
        check_labels(listing)
        n, classes = sum(len(part.labels) for part in listing.parts.values()), listing.classes
        side = working_shape(listing, None)[1]
    return f"{n:,} images of {len(classes)} classes at {side} pixels"


def _about(labels: np.ndarray, ids: Sequence[str], rows: np.ndarray, *, k: int, made: bool) -> dict[str, Any]:
    return {
        "n": len(labels),
        "per_class": np.bincount(labels, minlength=k).tolist(),
        "sha256": ids_sha256([ids[row] for row in rows.tolist()]),
        "made": made,
    }


def _check_arguments(
    seed: int,
    resolution: int | None,
    memory_share: float,
    val_fraction: float,
    test_fraction: float,
    workers: int | None,
) -> None:
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}")
    if resolution is not None and not 1 <= resolution <= 4096:
        raise InputError(f"resolution must be between 1 and 4096 pixels, not {resolution}")
    if not 0 <= memory_share <= 1:
        raise InputError(f"memory_share must be between 0 (always stream) and 1, not {memory_share}")
    if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
        raise InputError(
            "val_fraction and test_fraction must be positive and below 1 together, "
            f"not {val_fraction} and {test_fraction}"
        )
    if workers is not None and workers < 1:
        raise InputError(f"workers must be 1 or more, not {workers}")


def _list(source: str | Path | tuple[Any, Any], budget_bytes: float) -> Listing:
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"arrays come as a pair (x, y), not {len(source)} of them")
        return list_arrays(*source)
    if source == "digits":
        return list_digits()
    if not isinstance(source, (str, Path)):
        raise InputError(f"data must be a path, 'digits' or a pair (x, y), not {type(source).__name__}")
    path = Path(source).expanduser()
    if path.is_dir():
        has_parquet = any(next(path.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet"))
        return list_parquet(path) if has_parquet else list_folder(path)
    if not path.exists():
        raise InputError(
            f"{path} does not exist: give a folder of class folders, an .npz or .parquet file, or the built-in digits"
        )
    if path.suffix.lower() == ".npz":
        return list_npz(path, budget_bytes)
    if path.suffix.lower() == ".parquet":
        return list_parquet(path)
    raise InputError(f"{path} is not data Sartor reads: give a folder of class folders, an .npz or a .parquet file")
