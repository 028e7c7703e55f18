"""What targets have in common that take torch programs, not files: the file's module, of one batch size at a time."""

from __future__ import annotations

import abc
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sartor.errors import InputError
from sartor.measure.feeds import inputs, random_feeds
from sartor.measure.targets.aten import aten
from sartor.measure.targets.local import Local, reason
from sartor.measure.timing import Call

Tensors = tuple[torch.Tensor, ...]


class Runner(abc.ABC):
    """A module as a target runs it."""

    @abc.abstractmethod
    def run(self, images: Tensors) -> np.ndarray:
        """The first output."""

    @abc.abstractmethod
    def bound(self, images: Tensors) -> Call:
        """What is timed: one call, its input in place."""


class Program(Local):
    """A subclass says how a module becomes what it runs."""

    @abc.abstractmethod
    def built(self, module: nn.Module, images: Tensors) -> Runner:
        """``module`` made ready for inputs like ``images``. What it raises is told with the file's name."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """See ``targets.local.Local``: torch's threads are the whole process's."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)

    def call(self, file: Path, batch: int) -> Call:
        """See ``targets.local.Local``."""
        runner, images = self._runner(file, random_feeds(file, batch))
        call = runner.bound(images)
        call()
        return call

    def outputs(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The first output of ``file`` for each batch. Raises InputError when a batch does not fit the file."""
        made: dict[int, Runner] = {}
        for batch in batches:
            (_, shape, dtype), *others = inputs(file, len(batch))
            if others or batch.shape != shape or batch.dtype != dtype:
                raise InputError(f"{file} takes {dtype} {list(shape)}, not {batch.dtype} {list(batch.shape)}")
            with self.running():
                if len(batch) not in made:
                    made[len(batch)], _ = self._runner(file, random_feeds(file, len(batch)))
                said = made[len(batch)].run((torch.from_numpy(np.ascontiguousarray(batch)),))
            yield said

    def _runner(self, file: Path, feeds: dict[str, np.ndarray]) -> tuple[Runner, Tensors]:
        module = aten(file, self.name, feeds)
        images = tuple(torch.from_numpy(array) for array in feeds.values())
        try:
            return self.built(module, images), images
        except InputError:
            raise
        except Exception as error:  # compilers raise whatever they like
            raise InputError(f"{self.name} cannot run {file}: {reason(error)}") from error


class Eager(Runner):
    """Anything that is called with tensors and returns one."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.function = function

    def run(self, images: Tensors) -> np.ndarray:
        return self.function(*images).numpy()

    def bound(self, images: Tensors) -> Call:
        return functools.partial(self.function, *images)
