"""Small image sets written in every form Sartor opens."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


class Write:
    """Writes images ``x`` (uint8 ``[n, h, w(, 3)]``) with labels ``y`` below a folder of its own."""

    def __init__(self, root: Path):
        self.root = root

    def folder(self, x, y, below="folder", names=("ant", "bee", "cat"), suffix="png") -> Path:
        place = self.root / below
        for i, (image, label) in enumerate(zip(x, y, strict=True)):
            (place / names[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / names[label] / f"{i:04d}.{suffix}")
        return place

    def parquet(self, x, y, name="set.parquet", names=("ant", "bee", "cat"), row_group_size=16, data=None) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = [png(image) for image in x] if data is None else data
        image = pa.array(
            [{"bytes": b, "path": None} for b in data], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
        features = {"image": {"_type": "Image"}, "label": {"names": list(names or ()), "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
        table = pa.table({"image": image, "label": pa.array(y)}).replace_schema_metadata(metadata)
        pq.write_table(table, path, row_group_size=row_group_size)
        return path

    def npz(self, name="set.npz", **arrays) -> Path:
        path = self.root / name
        np.savez(path, **arrays)
        return path


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def write(tmp_path) -> Write:
    return Write(tmp_path)


@pytest.fixture(scope="session")
def images() -> tuple[np.ndarray, np.ndarray]:
    """60 random colour images of 12 x 12 in three classes of 20, no two the same."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8), np.repeat(np.arange(3), 20)
