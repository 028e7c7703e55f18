"""Classify images with an exported model: arrays, files, folders. ONNX Runtime and Pillow only, no torch.

Everything the preprocessing needs travels inside the ONNX file (metadata key ``sartor``), so a model copied alone still
predicts what it predicted in its run.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sartor.data.decode import decode, suffixes
from sartor.errors import InputError

METADATA_KEY = "sartor"
METADATA_FORMAT = 1
BATCH = 64
"""Images run together: enough to keep a processor busy, little enough for a small machine's memory."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one image. ``file`` is its path where it came from one.

    A file that cannot be read has its reason in ``error``, and then ``label`` is -1 and ``probabilities`` is empty.
    """

    label: int
    class_name: str
    probability: float
    probabilities: tuple[float, ...]
    file: str | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ``file`` where there is one, then either ``error`` or the answer."""
        head = {} if self.file is None else {"file": self.file}
        if self.error is not None:
            return {**head, "error": self.error}
        answer = {"label": self.label, "class_name": self.class_name, "probability": self.probability}
        return {**head, **answer, "probabilities": list(self.probabilities)}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input, as it was in training.

    Decoded to ``resolution`` × ``resolution`` uint8 in ``channels``, scaled to [0, 1], minus ``mean``, over ``std``
    (each per channel), then resized to the file's own side where that is smaller (antialiased bilinear).
    """

    classes: tuple[str, ...]
    channels: int
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str = ""

    @classmethod
    def from_json(cls, text: str, where: Path) -> Preprocessing:
        """Parse the metadata of ``where``. Raises InputError naming what is wrong with it."""
        try:
            value = json.loads(text)
            if value["format"] != METADATA_FORMAT:
                raise InputError(
                    f"{where} carries metadata of format {value['format']!r} and this Sartor reads {METADATA_FORMAT}: "
                    "use the version that exported it"
                )
            channels = int(value["channels"])
            mean, std = (tuple(float(x) for x in value[key]) for key in ("mean", "std"))
            classes = tuple(str(name) for name in value["classes"])
            found = cls(classes, channels, int(value["resolution"]), mean, std, str(value.get("name", "")))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} carries damaged metadata ({error!r}): export it again") from error
        numbers = all(math.isfinite(x) for x in (*mean, *std)) and all(x > 0 for x in std)
        lengths = channels in (1, 3) and len(mean) == len(std) == channels and len(classes) > 1
        if not (numbers and lengths and found.resolution > 0):
            raise InputError(f"{where} carries damaged metadata (values that do not fit together): export it again")
        return found

    def to_json(self) -> str:
        """The text to store under ``METADATA_KEY`` in the exported file."""
        value = {"format": METADATA_FORMAT, "classes": list(self.classes), "channels": self.channels}
        scale = {"resolution": self.resolution, "mean": list(self.mean), "std": list(self.std)}
        return json.dumps({**value, **scale, "name": self.name})


class Classifier:
    """An exported model, ready to classify: ``Classifier("model").predict(["cat.jpg"])[0].class_name``.

    ``path`` is an .onnx file, or a folder that holds model.onnx. ``threads`` 0 leaves the number to ONNX Runtime.
    Raises InputError when the file is missing, damaged, or was not exported by Sartor.
    """

    def __init__(self, path: str | Path, *, threads: int = 0):
        self.path = _model_file(Path(path))
        self._session = _session(self.path, threads)
        stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if stored is None:
            raise InputError(f"{self.path} was not exported by Sartor (no preprocessing in its metadata)")
        self.preprocessing = Preprocessing.from_json(stored, self.path)
        entry, out = self._session.get_inputs()[0], self._session.get_outputs()[0]
        channels, width = entry.shape[1], out.shape[-1]
        if channels != self.preprocessing.channels or width != len(self.classes):
            raise InputError(
                f"{self.path} takes {channels} channels and tells {width} classes apart, its metadata says "
                f"{self.preprocessing.channels} and {len(self.classes)}: export it again"
            )
        side = entry.shape[2]
        self._input, self._side = entry.name, side if isinstance(side, int) else self.preprocessing.resolution

    @property
    def classes(self) -> tuple[str, ...]:
        return self.preprocessing.classes

    def predict(self, images: np.ndarray | Sequence[str | Path] | str | Path) -> list[Prediction]:
        """One prediction an image.

        ``images``: uint8 in 0..255 or floats in 0..1, [n, H, W] grey or [n, H, W, C] with C 1, 3 or 4; or files and
        folders (searched through for images), where a file that cannot be read gets a prediction with ``error`` set.
        Raises InputError for arrays of another kind, and for a folder without images.
        """
        if isinstance(images, np.ndarray):
            return [self._answer(p) for batch in _batches(self._prepared(images)) for p in self._run(batch)]
        return list(self.predict_files([images] if isinstance(images, (str, Path)) else images))

    def predict_files(self, paths: Iterable[str | Path]) -> Iterator[Prediction]:
        """As :meth:`predict` for files and folders, one prediction at a time with memory flat in their number."""
        files = iter(_files(paths))
        while group := list(islice(files, BATCH)):
            decoded = [self._decode(file) for file in group]
            good = [image for image in decoded if isinstance(image, np.ndarray)]
            answers = iter(self._run(np.stack(good)) if good else ())
            for file, image in zip(group, decoded, strict=True):
                if isinstance(image, str):
                    yield Prediction(-1, "", 0.0, (), str(file), image)
                else:
                    yield self._answer(next(answers), str(file))

    def _decode(self, file: Path) -> np.ndarray | str:
        """The image as uint8 [C, R, R], or why it cannot be had."""
        rules = self.preprocessing
        try:
            return decode(file, rules.channels, rules.resolution)
        except InputError as error:
            return str(getattr(error, "reason", error))

    def _prepared(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Each image of an array as uint8 [C, R, R], by the rules that files go through."""
        channels, side = self.preprocessing.channels, self.preprocessing.resolution
        for image in _as_uint8(images):
            if image.shape == (side, side, channels):
                yield image.transpose(2, 0, 1)
            else:
                # Through a PNG in memory: lossless, and the same resizing and flattening by construction.
                file = io.BytesIO()
                pixels = image[..., 0] if image.shape[-1] == 1 else image
                Image.fromarray(pixels).save(file, "PNG", compress_level=0)
                yield decode(file.getvalue(), channels, side)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 [n, C, R, R] → probabilities [n, classes] in float64."""
        rules = self.preprocessing
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (rules.mean, rules.std))
        x = _resized((batch.astype(np.float32) / np.float32(255) - mean) / std, self._side)
        logits = self._session.run(None, {self._input: x})[0].astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def _answer(self, probabilities: np.ndarray, file: str | None = None) -> Prediction:
        label = int(probabilities.argmax())
        return Prediction(
            label, self.classes[label], float(probabilities[label]), tuple(map(float, probabilities)), file
        )


def _model_file(path: Path) -> Path:
    file = path / "model.onnx" if path.is_dir() else path
    if not file.is_file():
        hint = "a folder made by `sartor pick`" if path.is_dir() or not path.suffix else "an .onnx file"
        raise InputError(f"there is no {file}: name {hint}")
    return file


def _session(file: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors arrive as exceptions; nothing of its own belongs on the terminal
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class with a name
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{file} is not a model that ONNX Runtime can open ({reason})") from error


def _as_uint8(images: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, C] of an array the user gave. Raises InputError naming the fix."""
    if images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4) and images.shape[0] > 4):
        raise InputError(f"an array of shape {images.shape} looks like one image: pass images[None]")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3, 4)):
        raise InputError(f"images must be [n, H, W] or [n, H, W, C] with C 1, 3 or 4, not of shape {images.shape}")
    if images.size == 0 and len(images):
        raise InputError(f"images of shape {images.shape} hold no pixels")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InputError(f"images must be uint8 in 0..255 or floats in 0..1, not {images.dtype}")
        if images.size and not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
            raise InputError("images of floats must lie in 0..1 (NaN or other values found): divide them by 255")
        images = np.rint(images * 255).astype(np.uint8)
    return images[..., None] if images.ndim == 3 else images


def _resized(x: np.ndarray, side: int) -> np.ndarray:
    """float32 [n, C, R, R] → [n, C, side, side]: Pillow's bilinear antialiases as training's resize does."""
    if x.shape[-1] == side:
        return x
    planes = [
        np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BILINEAR))
        for p in x.reshape(-1, *x.shape[2:])
    ]
    return np.stack(planes).reshape(*x.shape[:2], side, side)


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    iterator = iter(images)
    while group := list(islice(iterator, BATCH)):
        yield np.stack(group)


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Files as named, whatever they are called; folders searched through by suffix, in order, without hidden ones."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes() and _visible(p.relative_to(path)))
        found = [p for p in inside if p.is_file()]
        if not found:
            raise InputError(f"{path} holds no images: name a folder that does, or the files themselves")
        yield from found


def _visible(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def metadata(data: Mapping[str, Any], name: str = "") -> dict[str, str]:
    """The metadata an exported model needs to be served, from run.json's ``data`` (classes, channels, …, std)."""
    keys = ("classes", "channels", "resolution", "mean", "std")
    classes, channels, resolution, mean, std = (data[key] for key in keys)
    rules = Preprocessing(tuple(classes), int(channels), int(resolution), tuple(mean), tuple(std), name)
    return {METADATA_KEY: rules.to_json()}
