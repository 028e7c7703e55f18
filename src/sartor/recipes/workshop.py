"""What all stages of one fit share: the job, the data, the run's folder and journal, the target, the voice."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sartor.compress.quantize import quantize_int8
from sartor.data import Dataset, Images, in_order, shuffled
from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.export.drafts import Drafts
from sartor.export.onnx import export_draft, export_onnx
from sartor.graph import Cut
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import memory_of
from sartor.measure.units.model import LatencyModel, read_latency_model
from sartor.models import build, input_shape, resize
from sartor.recipes.bench import recipe_for
from sartor.recipes.given import Given
from sartor.recipes.job import Job
from sartor.recipes.journal import Journal
from sartor.recipes.metadata import preprocessing
from sartor.recipes.plan import Clock
from sartor.recipes.voice import Voice
from sartor.records import Arch
from sartor.train.augment import Preprocess
from sartor.train.device import pick_device, place
from sartor.train.loop import Recipe
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.steps import Inputs

EVALUATION_BATCH, EVALUATION_PIXELS = 250, 2**20
"""Images of an evaluation's batch, fewer where they are large: activations are what fills the memory."""

LARGEST_BATCH = 256
"""Images of a training's batch."""

TRAINING_PIXELS = 2**22
"""Of a training's batch: 256 images of up to 128 pixels a side. Activations of large images would fill any memory."""

CALIBRATION_IMAGES = 2000
"""Train images a batch-norm recalibration sees: SPOS and BigNAS found a few thousand enough."""

VALIDATION_IMAGES, HELD_BYTES = 10_000, 2**28
"""Networks are judged by at most so many validation images, or bytes; the final check uses all."""

RANKING_IMAGES = 2000
"""Images of either kind, to recalibrate and to judge by, that the search spends on one network: twice the networks for
a standard error of one point, which all of them share in part. Fewer where there is no time for so many."""


LEARNT_FROM, LEARNING_SHARE = 6, 0.03
"""Exports, about, from which is learnt how to slice a given network's file, and the share of the time that they may
take: by the fast exporter, where the one that ships takes longer. A choice."""


@dataclass
class Workshop:
    """The bench everything is cut on. Stages take it and return what they made."""

    job: Job
    dataset: Dataset
    path: Path
    journal: Journal
    clock: Clock
    voice: Voice
    given: Given | None = None
    largest_batch: int = LARGEST_BATCH
    """Images; fewer where the time would do for few steps of so many."""
    ranking_images: int = RANKING_IMAGES
    judged_images: int = VALIDATION_IMAGES
    export_s: float = 0.0
    """Seconds that writing the given network's file takes."""
    knows: bool = False
    """Whether the given network knows these images."""

    def know(self, knows: bool, judged_images: int, largest_batch: int) -> None:
        """What the probe found of the given network: whether it knows these images, by how many of them networks are
        judged, and how many are a batch."""
        self.knows, self.largest_batch = knows, largest_batch
        self.judged_images = min(judged_images, VALIDATION_IMAGES)
        self.__dict__.pop("recipe", None)

    @cached_property
    def device(self) -> torch.device:
        return pick_device()

    @cached_property
    def preprocess(self) -> Preprocess:
        given = self.given
        if given is not None and given.mean is not None and given.std is not None:
            return Preprocess(given.mean, given.std)
        return Preprocess(self.dataset.mean, self.dataset.std)

    @cached_property
    def target(self) -> Any:
        return open_target(self.job.target, self.job.threads)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def as_it_came(self) -> Path:
        """The file of the network that was given, untouched."""
        return self.path / "work" / "as-it-came" / "model.onnx"

    @property
    def side(self) -> int:
        """Pixels a side of the largest images that any network of this fit takes."""
        return self.dataset.resolution if self.given is None else max(self.given.side, self.dataset.resolution)

    @cached_property
    def recipe(self) -> Recipe:
        """The short-time recipe, with a batch small enough for a small set to fill an epoch, and for memory."""
        n = len(self.dataset.train)
        room = TRAINING_PIXELS // self.side**2
        recipe = Recipe(batch_size=max(1, min(self.largest_batch, 2 ** int(np.log2(max(2, min(n / 12, room)))))))
        return recipe if self.given is None else recipe_for(self.given.original, recipe.batch_size, cut=self.knows)

    def build(self, arch: Arch) -> nn.Module:
        """The plain network of ``arch`` for this data, with fresh weights, or those of the given network as it came."""
        return self.builder(arch)

    @cached_property
    def builder(self) -> Any:
        if self.given is not None:
            return self.given.untouched
        data = self.dataset
        return partial(build, channels=data.channels, classes=len(data.classes), full_resolution=data.resolution)

    def shape(self, arch: Arch) -> tuple[int, int, int]:
        return input_shape(arch, self.dataset.channels)

    def inputs(self, name: str, *, flip: bool) -> Inputs:
        """Augmentation for one training; each training has its own stream of randomness. Shifts are a sixteenth of the
        side; ``benchmarks/recipe.py --variants base,shift4`` compares it with an eighth, the custom elsewhere."""
        seed = (self.job.seed * 7919 + sum(map(ord, name))) % 2**31
        return Inputs(self.preprocess, self.device, seed=seed, shift=round(self.dataset.resolution / 16), flip=flip)

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled train batches from step ``start`` on."""
        return shuffled(self.dataset.train, self.recipe.batch_size, seed=self.job.seed, start=start)

    @cached_property
    def _calibration(self) -> Tensor:
        """Fixed train images for recalibration and quantisation, uint8."""
        train = self.dataset.train
        n = max(2, min(CALIBRATION_IMAGES, HELD_BYTES // math.prod(train.shape)))
        rows = np.random.default_rng(self.job.seed).permutation(len(train))[:n]
        return train.take(np.sort(rows))

    def _batch(self, pixels: int = EVALUATION_PIXELS) -> int:
        return max(2, min(EVALUATION_BATCH, pixels // self.side**2))

    def calibration(
        self, side: int, n: int = CALIBRATION_IMAGES, *, pixels: int = EVALUATION_PIXELS
    ) -> Iterator[Tensor]:
        """Normalised train images at ``side`` pixels, on the device, in batches of up to ``pixels`` pixels."""
        for batch in self._calibration[:n].split(self._batch(pixels)):
            if len(batch) > 1:
                yield resize(self.preprocess(batch.to(self.device)), side)

    def labelled(self, images: Images, side: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image of a split once, normalised, at ``side`` pixels, on the device, with its label."""
        for batch, labels in in_order(images, self._batch()):
            yield resize(self.preprocess(batch.to(self.device)), side), labels

    @cached_property
    def _validation(self) -> tuple[Tensor, Tensor]:
        """The validation images that the search judges by, uint8, and their labels: all, or a fixed sample of many.

        Splits lie in a seeded random order, so a prefix is a fair sample.
        """
        val = self.dataset.val
        n = max(1, min(len(val), VALIDATION_IMAGES, HELD_BYTES // math.prod(val.shape)))
        return val.take(np.arange(n)), torch.from_numpy(val.labels[:n])

    @property
    def validation_images(self) -> int:
        """How many :meth:`validation` gives."""
        return len(self._validation[1])

    def validation(self, side: int, n: int = VALIDATION_IMAGES) -> Iterator[tuple[Tensor, Tensor]]:
        """Validation images, ``n`` at most, normalised, at ``side`` pixels, on the device, with their labels."""
        for images, labels in zip(*(t[:n].split(self._batch()) for t in self._validation), strict=True):
            yield resize(self.preprocess(images.to(self.device)), side), labels

    def validate(self, network: nn.Module, side: int) -> float:
        """Recalibrate ``network`` in place and return its validation accuracy in training precision, on
        ``judged_images`` at most."""
        self.recalibrated(network, side)
        return accuracy(network.eval(), self.validation(side, self.judged_images))

    def recalibrated(self, network: nn.Module, side: int) -> None:
        """Batch norms' statistics anew, in place, on as many images as it is judged by."""
        recalibrate(place(network, self.device), self.calibration(side, self.judged_images))

    def rank(self, network: nn.Module, side: int) -> float:
        """As :meth:`validate`, on fewer images: to compare networks of one supernet, all on the same ones."""
        recalibrate(place(network, self.device), self.calibration(side, self.ranking_images))
        return accuracy(network.eval(), self.validation(side, self.ranking_images))

    def preprocessing(self, name: str) -> dict[str, Any]:
        """What travels in the file of network ``name`` so that it can be run on images by anyone."""
        return preprocessing(self.dataset, name, self.preprocess.mean, self.preprocess.std)

    def metadata(self, name: str) -> dict[str, str]:
        """:meth:`preprocessing` as a file holds it. The names of a thousand classes are a third of a small file."""
        return {"sartor": json.dumps(self.preprocessing(name))}

    def draft(self, arch: Arch) -> dict[str, float]:
        """Latency of ``arch`` on the target, file size and activation memory, from a file with the same graph and
        fresh weights. Measured once a run.

        Size and memory are those of the 8-bit file where it may be shipped and is nearer to the budget: neither depends
        on the weights. Latency is always the fp32 file's, by which archs are ranked.
        """
        budget = self.job.budget
        narrow = "int8" in self.job.precision and (budget.max_size_bytes, budget.max_memory_bytes) != (None, None)

        def measure() -> dict[str, float]:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "draft.onnx"
                shape = self.shape(arch)
                self._export_draft(arch, file, self.metadata("m0"))
                (latency_ms,) = self._latencies([file], 0.5)
                found = [] if narrow and "fp32" not in self.job.precision else [self._of_file(file)]
                if narrow:
                    noise = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
                    quantize_int8(file, file.with_stem("int8"), [noise], method="minmax")
                    found.append(self._of_file(file.with_stem("int8")))
                nearest = min(found, key=budget.excess)
                return {"latency_ms": latency_ms, **nearest}

        return dict(self.journal.once(f"draft.{arch.key}", measure))

    def _of_file(self, file: Path) -> dict[str, float]:
        """What a file has whatever its weights are."""
        return {"size_bytes": file.stat().st_size, "peak_memory_bytes": memory_of(self.target, file)}

    def side_by_side(self, archs: Sequence[Arch], seconds_each: float) -> list[float]:
        """Latencies (ms) of drafts of ``archs``, timed in turns: their ratios hold where the machine's pace, which
        drifts by a half within minutes on a shared one, has blurred those measured one by one."""

        def measure() -> list[float]:
            with tempfile.TemporaryDirectory() as folder:
                files = [Path(folder) / f"{index}.onnx" for index in range(len(archs))]
                for arch, file in zip(archs, files, strict=True):
                    self._export_draft(arch, file)
                return self._latencies(files, seconds_each)

        return list(self.journal.once("side_by_side." + ".".join(arch.key for arch in archs), measure))

    def _latencies(self, files: Sequence[Path], seconds_each: float) -> list[float]:
        """Milliseconds, measured in turns, or predicted where the job has a model of them."""
        if self._latency_model is not None:
            return [predicted.ms for predicted in self._latency_model.predict(files)]
        least = 0.05 if len(files) == 1 else 0.3
        found = self.target.latencies(files, runs=100, min_time_s=least, budget_s=seconds_each)
        return [float(latency.median_ms) for latency in found]

    @cached_property
    def _latency_model(self) -> LatencyModel | None:
        job = self.job
        if job.latency_model is None:
            return None
        return read_latency_model(job.latency_model, job.target, job.threads)

    def _export_draft(self, arch: Arch, file: Path, metadata: Mapping[str, str] | None = None) -> None:
        """A file of ``arch``'s operators and sizes: of cuts of a given network by slicing the whole one's file, where
        that can be; not of cropped kernels, whose padding is no size."""
        elastic = None if self.given is None else self.given.elastic
        if elastic is not None and not elastic.kernels(arch):
            self._drafts.write(Cut(elastic.cut(arch).keep, elastic.removed(arch)), file, metadata)
        elif elastic is None or self._drafts.draft:  # as the others are, which are sliced
            export_draft(self.build(arch), self.shape(arch), file, metadata=metadata)
        else:
            export_onnx(self.build(arch), self.shape(arch), file, metadata=metadata)

    @cached_property
    def _drafts(self) -> Drafts:
        """Of the network that was given."""
        assert self.given is not None
        elastic = self.given.elastic
        # The exporter that ships, whose files are another network's where it is not convolutional, where there is
        # time for it.
        draft = LEARNT_FROM * self.export_s > LEARNING_SHARE * self.job.time_s
        return Drafts(elastic.graph, self.shape(elastic.largest), draft=draft, say=self.voice.detail)

    def draft_latency_ms(self, arch: Arch) -> float:
        return self.draft(arch)["latency_ms"]

    def save(self, name: str, state: dict[str, Tensor]) -> None:
        """Weights into ``checkpoints/NAME.safetensors``, whole or not at all."""
        tensors = {n: t.detach().cpu().clone().contiguous() for n, t in state.items()}  # tied ones under every name
        write_atomic(self.checkpoints / f"{name}.safetensors", save(tensors))

    def saved(self, name: str) -> bool:
        """Whether :meth:`save` has been here. The file decides, not the journal: a journal may be another run's."""
        return (self.checkpoints / f"{name}.safetensors").exists()

    def load(self, name: str) -> dict[str, Tensor]:
        """The inverse of :meth:`save`. Raises InputError when the file is missing or damaged."""
        file = self.checkpoints / f"{name}.safetensors"
        try:
            with safe_open(file, framework="pt") as held:
                return {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118
        except Exception as error:  # the parser raises its own types
            raise InputError(f"{file} is missing or damaged ({error}): choose another --out to start anew") from error
