"""A parquet file, or a folder of them, in the Hugging Face image layout: ``image: {bytes, path}`` and ``label``."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sartor.data.listing import SPLIT_NAMES, Listing, Numbered, Part, Place, blocks, class_order, fingerprint
from sartor.errors import InputError


@dataclass(frozen=True)
class Columns:
    """The names of the two columns, where the bytes are inside the first, and the class names where given."""

    image: str
    path: str
    label: str
    classes: tuple[str, ...] | None


class Rows:
    """The images of parquet files, row by row."""

    def __init__(self, files: Sequence[Path], columns: Columns, open_files: list[int]):
        self._files, self._columns, self._open_files = files, columns, open_files
        self._n = sum(pq.read_metadata(file).num_rows for file in files)

    def __len__(self) -> int:
        return self._n

    def sample(self, n: int) -> list[str | bytes]:
        """The first rows of up to 16 row groups spread over all: a group is read whole, however few rows are used."""
        groups = [(file, g) for file in self._files for g in range(pq.read_metadata(file).num_row_groups)]
        picks = np.unique(np.linspace(0, len(groups) - 1, min(16, len(groups))).astype(int))
        found: list[str | bytes] = []
        for pick in picks:
            file, group = groups[pick]
            found += next(self._batches(file, -(-n // len(picks)), [group]), [])
        return found

    def chunks(self, size: int) -> Iterator[list[str | bytes]]:
        for file in self._files:
            yield from self._batches(file, size, None)

    def places(self) -> Sequence[Place]:
        """Copy the encoded images to a temporary file: parquet has no access by row short of a whole row group.

        The file (in $TMPDIR) has no name, so it goes away with the process, whatever ends it. Rejected: shuffling
        within a window of row groups, which ties the order of training to how the file happened to be written.
        """
        ends = [0]
        try:
            file = tempfile.TemporaryFile(prefix="sartor-")  # noqa: SIM115 - lives as long as its descriptor
            for chunk in self.chunks(256):
                for data in chunk:
                    ends.append(ends[-1] + file.write(data))  # type: ignore[arg-type]
            file.flush()
            descriptor = os.dup(file.fileno())
            file.close()
        except OSError as error:
            raise InputError(
                f"cannot copy the images to {tempfile.gettempdir()} ({error.strerror}): "
                "free some space there, or set TMPDIR to a larger place"
            ) from error
        self._open_files.append(descriptor)
        return Slices(descriptor, np.asarray(ends, dtype=np.int64))

    def _batches(self, file: Path, size: int, groups: list[int] | None) -> Iterator[list[str | bytes]]:
        with _readable(file), pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as table:
            for batch in table.iter_batches(batch_size=size, row_groups=groups, columns=[self._columns.path]):
                column = batch.column(0)
                if pa.types.is_struct(column.type):
                    column = column.field("bytes")
                yield [data if data is not None else b"" for data in column.to_pylist()]


class Slices(Sequence[Place]):
    """Images that lie one after the other in an open file."""

    def __init__(self, descriptor: int, ends: np.ndarray):
        self._descriptor, self._ends = descriptor, ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        start, end = int(self._ends[index]), int(self._ends[index + 1])
        return (self._descriptor, start, end - start)


def list_parquet(source: Path) -> Listing:
    """List a parquet file, or a folder of them (also deeper).

    In a folder, the split is what a file's name or one of its folders' names begins with (train, val, valid,
    validation, test); when none does, all files are one set. A file given alone is one set, whatever its name.
    Class names come from the schema's ``huggingface`` metadata where there are any. Raises InputError.
    """
    if source.is_dir():
        root, files = source, sorted(path for path in source.rglob("*.parquet") if path.is_file())
        by_split = _by_split(root, files)
    else:
        root, files, by_split = source.parent, [source], {"train": [source]}
    columns = {file: _columns(file) for file in files}
    first = columns[files[0]]
    for file in files:
        if (columns[file].path, columns[file].label) != (first.path, first.label):
            raise InputError(f"{file} and {files[0]} have different columns: keep files of one data set in a folder")
    values = {split: _labels(group, first.label) for split, group in by_split.items()}
    classes, labels = _encode(values, first.classes, source)
    open_files: list[int] = []
    parts = {}
    for split, group in by_split.items():
        ids = Numbered(f"{split if source.is_dir() else source.stem}:", len(labels[split]))
        parts[split] = Part(labels[split], ids, Rows(group, first, open_files))
    identity = fingerprint(
        (str(f.relative_to(root)) if source.is_dir() else "", f.stat().st_size, partial(blocks, str(f))) for f in files
    )
    return Listing(source.resolve().stem, classes, parts, identity, open_files)


def _by_split(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        names = [part.lower() for part in reversed(file.relative_to(root).parts)]  # the file's own name first
        split = next((SPLIT_NAMES[s] for name in names for s in SPLIT_NAMES if name.startswith(s)), "")
        found.setdefault(split, []).append(file)
    if set(found) == {""}:
        return {"train": found[""]}
    if "" in found:
        raise InputError(f"{found[''][0]} is in no split while others are: begin its name with train, val or test")
    if "train" not in found:
        raise InputError(f"{root} has {', '.join(sorted(found))} but no train*.parquet: add it, or give one file")
    return found


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file} cannot be read as parquet: {reason[:120]}") from error


def _columns(file: Path) -> Columns:
    """Find the image and the label column: by the features in the metadata, else by their usual names."""
    with _readable(file):
        schema = pq.read_schema(file)
    features = _features(schema)
    images = [name for name, kind in features.items() if kind.get("_type") == "Image" and name in schema.names]
    labels = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel" and name in schema.names]
    image = next((n for n in ("image", "img") if n in schema.names), images[0] if len(images) == 1 else None)
    label = next((n for n in ("label", "labels") if n in schema.names), labels[0] if len(labels) == 1 else None)
    if image is None or label is None:
        raise InputError(
            f"{file} has the columns {', '.join(schema.names)}: it needs image (a struct with bytes) and label"
        )
    kind = schema.field(image).type
    inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise InputError(f"{file}: the column {image} is {kind}, not a struct with the image's bytes")
    names = features.get(label, {}).get("names")
    classes = tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
    return Columns(image, f"{image}.bytes" if inner is not kind else image, label, classes or None)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {k: v for k, v in features.items() if isinstance(v, dict)} if isinstance(features, dict) else {}


def _labels(files: Sequence[Path], column: str) -> np.ndarray:
    found = []
    for file in files:
        with _readable(file):
            values = pq.read_table(file, columns=[column]).column(0)
        if values.null_count:
            raise InputError(f"{file}: {values.null_count} rows have no {column}: remove them")
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        if not (is_text or pa.types.is_integer(values.type)):
            raise InputError(f"{file}: the column {column} is {values.type}: it needs whole numbers or class names")
        found.append(values.to_numpy())
    return np.concatenate(found)


def _encode(
    values: dict[str, np.ndarray], names: tuple[str, ...] | None, source: Path
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    if all(value.dtype.kind in "iu" for value in values.values()):
        highest = max((int(value.max()) for value in values.values() if len(value)), default=-1)
        classes = names or tuple(str(i) for i in range(min(highest + 1, 2 + sum(map(len, values.values())))))
        return classes, {split: value.astype(np.int64) for split, value in values.items()}
    if any(value.dtype.kind in "iu" for value in values.values()):
        raise InputError(f"{source} has labels that are numbers in one split and names in another: use one kind")
    classes = names or class_order(str(v) for value in values.values() for v in np.unique(value.astype(str)))
    index = {name: i for i, name in enumerate(classes)}
    return classes, {
        split: np.asarray([index.get(str(v), -1) for v in value], dtype=np.int64) for split, value in values.items()
    }
