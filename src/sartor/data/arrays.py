"""Images in arrays: ``(x, y)`` in Python, an ``.npz`` file, and the built-in digits."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sartor.data.listing import SMALL_BYTES, Listing, Numbered, Part, Pixels, blocks, class_order, fingerprint
from sartor.errors import InputError


def list_arrays(x: Any, y: Any, name: str = "arrays", identity: str | None = None) -> Listing:
    """List images ``x`` (uint8 ``[n, h, w]`` or ``[n, h, w, c]``, c 1 or 3) and labels ``y`` (0..k-1, or names).

    ``x`` is used where it lies, not copied, when it needs no resizing. Raises InputError naming the conversion needed.
    """
    x, y = np.asanyarray(x), np.asanyarray(y)
    _check_images(x)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (len(x),):
        raise InputError(f"y must hold one label for each of the {len(x)} images, not have the shape {y.shape}")
    if y.dtype.kind in "US":
        names = y.astype(str)
        classes = class_order(np.unique(names).tolist())
        index = {text: i for i, text in enumerate(classes)}
        labels = np.asarray([index[text] for text in names.tolist()], dtype=np.int64)
    else:
        labels = _whole_numbers(y)
        # Never more names than could all have images, so that one wild label cannot ask for 10^18 of them.
        classes = tuple(str(i) for i in range(min(max(int(labels.max()), 0) + 1, len(labels) + 1)))
    part = Part(labels, Numbered("", len(x)), Pixels(x))
    return Listing(name, classes, {"train": part}, identity or _identity(x, y))


def list_npz(path: Path, budget_bytes: float) -> Listing:
    """List an ``.npz`` file with ``x`` and ``y``. Images above ``budget_bytes`` are unpacked to a temporary file.

    That file (in $TMPDIR) has no name and goes away with the process. Never unpickles. Raises InputError.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz file, or damaged: write it with np.savez(path, x=x, y=y)")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in ("x", "y") if key not in file.files]
            if missing:
                raise InputError(
                    f"{path} holds {', '.join(file.files) or 'nothing'}: it needs x (images) and y (labels)"
                )
            y = file["y"]
            with zipfile.ZipFile(path) as archive:
                n_bytes = archive.getinfo("x.npy").file_size
            x = file["x"] if n_bytes <= budget_bytes else _unpack(path, n_bytes)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        reason = (
            "it holds Python objects"
            if "allow_pickle" in str(error)
            else (str(error).splitlines() or ["not enough memory"])[0][:120]
        )
        raise InputError(f"{path} cannot be read as .npz: {reason}; write it with np.savez(path, x=x, y=y)") from error
    identity = fingerprint([("", path.stat().st_size, partial(blocks, str(path)))])
    return list_arrays(x, y, path.stem, identity)


def list_digits() -> Listing:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 grey, their 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits  # half a second to import, and only digits needs it

    digits = load_digits()
    return list_arrays(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64), "digits")


def _check_images(x: np.ndarray) -> None:
    if x.ndim == 0:
        raise InputError("x is a single number: images must have the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    if x.dtype.kind == "f" and not all(np.isfinite(x[i : i + 256]).all() for i in range(0, len(x), 256)):
        raise InputError("x holds NaN or infinite values: images must be uint8, 0 to 255")
    if x.dtype != np.uint8:
        fix = {"f": "(x * 255).astype(np.uint8) if it is 0 to 1", "b": "x.astype(np.uint8) * 255"}
        raise InputError(
            f"x must be uint8 (0 to 255), not {x.dtype}: convert with {fix.get(x.dtype.kind, 'x.astype(np.uint8)')}"
        )
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
        raise InputError(f"x has the shape {x.shape}, channels first: convert with x.transpose(0, 2, 3, 1)")
    if x.ndim == 4 and x.shape[3] == 4:
        raise InputError(f"x has the shape {x.shape}, with an alpha channel: leave it out with x[..., :3]")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise InputError(f"x must have the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), not {x.shape}")
    if 0 in x.shape:
        raise InputError(f"x has the shape {x.shape}: there are no images in it")


def _whole_numbers(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise InputError("y holds NaN: labels must be whole numbers from 0 to the number of classes less one")
    if y.dtype.kind not in "iu":
        raise InputError(f"y must hold whole numbers or class names, not {y.dtype}: convert with y.astype(np.int64)")
    return y.astype(np.int64)


def _identity(x: np.ndarray, y: np.ndarray) -> str:
    """Like :func:`sartor.data.listing.fingerprint`; large arrays by their labels, shape and 1,000 of the images."""
    small = x.nbytes <= SMALL_BYTES
    digest = hashlib.sha256(f"{x.shape}{y.dtype}".encode())
    digest.update(np.ascontiguousarray(y).tobytes())
    rows = range(len(x)) if small else np.linspace(0, len(x) - 1, 1000).astype(int)
    for row in rows:
        digest.update(np.ascontiguousarray(x[row]).tobytes())
    return f"{'bytes' if small else 'sample'}-sha256:{digest.hexdigest()}"


def _unpack(path: Path, n_bytes: int) -> np.ndarray:
    folder = tempfile.gettempdir()
    if n_bytes > shutil.disk_usage(folder).free:
        raise InputError(
            f"{path} unpacks to {n_bytes / 1e9:.1f} GB, more than is free in {folder}: set TMPDIR to a larger place"
        )
    with zipfile.ZipFile(path) as archive, archive.open("x.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
        if dtype.hasobject:
            raise ValueError("allow_pickle=False")
        with tempfile.TemporaryFile(prefix="sartor-") as file:
            shutil.copyfileobj(member, file, 2**20)
            file.flush()
            return np.memmap(file, dtype=dtype, mode="r", shape=shape, order="F" if fortran else "C")
