"""The agent's files, by the hash of their content, in one folder of bounded size: those longest unused go first."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from io import BufferedIOBase
from pathlib import Path

from sartor.disk import explain, make_dir
from sartor.measure.agent.wire import HASH, Malformed
from sartor.measure.caches import make_room, sha256_of


class Cache:
    """Files of at most ``max_bytes`` in total below ``folder``. Raises WriteError where that cannot be written."""

    def __init__(self, folder: Path, max_bytes: int):
        self.folder, self.max_bytes = make_dir(folder), max_bytes
        self._lock = threading.Lock()
        try:
            folder.chmod(0o700)  # the networks are somebody's
            for part in folder.glob("*.part"):  # of agents that were killed
                part.unlink(missing_ok=True)
        except OSError as error:
            raise explain(error, folder) from error

    def path(self, name: str) -> Path:
        """Where the file of the hash ``name`` is kept. Raises Malformed for what is no hash, so for no other path."""
        if not HASH.fullmatch(name):
            raise Malformed("a file is named by the SHA-256 of its content, 64 hexadecimal digits")
        return self.folder / f"{name}.onnx"

    def holds(self, name: str) -> bool:
        """Whether the file is there and is what its name says; one that was damaged is removed."""
        path = self.path(name)
        try:
            if sha256_of(path) == name:
                os.utime(path)
                return True
        except FileNotFoundError:
            return False
        path.unlink(missing_ok=True)
        return False

    def put(self, name: str, source: BufferedIOBase, size: int) -> None:
        """Keep ``size`` bytes of ``source``. Raises Malformed when they are fewer, or not what ``name`` says."""
        path = self.path(name)
        handle, part = tempfile.mkstemp(dir=self.folder, suffix=".part")
        digest, left = hashlib.sha256(), size
        try:
            with os.fdopen(handle, "wb") as file:
                while left and (block := source.read(min(left, 2**20))):
                    digest.update(block)
                    file.write(block)
                    left -= len(block)
            if left:
                raise Malformed(f"the file ends {left} bytes early")
            if digest.hexdigest() != name:
                raise Malformed("the file's content is not what its hash says")
            with self._lock:
                make_room(self.folder, ".onnx", size, self.max_bytes)
                os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
