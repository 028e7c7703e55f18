"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sartor.data.decode import suffixes
from sartor.data.listing import SPLIT_NAMES, SPLITS, Listing, Part, Strings, class_order, fingerprint, readable_blocks
from sartor.errors import InputError


class Files:
    """Image files by path. The decoding processes get the paths themselves."""

    def __init__(self, paths: Sequence[str]):
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def sample(self, n: int) -> list[str | bytes]:
        rows = np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).astype(int))
        return [self._paths[row] for row in rows]

    def chunks(self, size: int) -> Iterator[list[str | bytes]]:
        for start in range(0, len(self), size):
            yield list(self._paths[start : start + size])

    def places(self) -> Sequence[str]:
        return self._paths


def list_folder(root: Path) -> Listing:
    """List a folder: ``root/CLASS/…`` or ``root/{train,val,test}/CLASS/…`` (also valid, validation, testing, training).

    Images may lie deeper inside a class folder; hidden files and files without an image's suffix are passed over.
    A set has split folders when one of them is named so and holds folders. Raises InputError for everything else.
    """
    folders = _folders(root)
    named = {folder: SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES}
    if not any(_folders(root / folder) for folder in named):
        return _listing(root, {"train": root})
    if len(set(named.values())) < len(named):
        raise InputError(f"{root} names a split twice ({', '.join(sorted(named))}): keep one folder for each split")
    if "train" not in named.values():
        raise InputError(f"{root} has {', '.join(sorted(named))} but no train folder: add one")
    others = [folder for folder in folders if folder not in named]
    if others:
        raise InputError(
            f"{root} holds split folders ({', '.join(sorted(named))}) and others ({', '.join(others[:3])}): "
            "move the others away"
        )
    return _listing(root, {split: root / folder for folder, split in named.items()})


def _listing(root: Path, split_folders: dict[str, Path]) -> Listing:
    classes = class_order(_folders(split_folders["train"]))
    if not classes:
        raise InputError(
            f"{split_folders['train']} has no class folders: put the images of each class into a folder of its name"
        )
    parts, sizes = {}, []
    for split in SPLITS:
        if split not in split_folders:
            continue
        folder = split_folders[split]
        unknown = sorted(set(_folders(folder)) - set(classes))
        if unknown:
            raise InputError(f"{folder} has the class {unknown[0]!r}, which train has not: add it there or remove it")
        names: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            found = _images(root, folder / name) if (folder / name).is_dir() else []
            if not found and split == "train":
                raise InputError(f"{folder / name} holds no images that can be read: add some or remove the folder")
            names += [path for path, _ in found]
            labels += [label] * len(found)
            sizes += [size for _, size in found]
        parts[split] = Part(
            np.asarray(labels, dtype=np.int64), Strings(names), Files(Strings(names, prefix=f"{root}{os.sep}"))
        )
    every = (name for part in parts.values() for name in part.ids)
    identity = fingerprint(
        (name, size, partial(readable_blocks, f"{root}{os.sep}{name}")) for name, size in zip(every, sizes, strict=True)
    )
    return Listing(root.resolve().name, tuple(map(_written, classes)), parts, identity)


def _written(name: str) -> str:
    """A name as text that can be written and printed: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _folders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, hidden ones and macOS leftovers aside."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {(error.strerror or str(error)).lower()}") from error


def _images(root: Path, folder: Path) -> list[tuple[str, int]]:
    """(path relative to ``root``, bytes) of every image below ``folder``, sorted."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in names:
            path = os.path.join(place, name)
            # Regular files only: opening a pipe that lies in a folder would wait for ever.
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes() and os.path.isfile(path):
                found.append((os.path.relpath(path, root), os.path.getsize(path)))
    return sorted(found)
