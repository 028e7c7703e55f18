"""What targets in this process have in common: files are timed in interleaved rounds, pinned, beside a reference."""

from __future__ import annotations

import abc
import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime as ort

from sartor.errors import InputError
from sartor.machine import cores
from sartor.measure.targets.target import OneByOne, refuse_nonsense
from sartor.measure.timing import Call, Latency, interleaved, pinned
from sartor.measure.trial import admit
from sartor.measure.untrusted import called, read


class Local(OneByOne, abc.ABC):
    """A subclass says how a file is loaded, called and run; see ``targets.target.Target`` for the rest.

    Whatever file it gets was let in by ``measure.trial.admit`` before: no runtime opens what was not looked at.
    """

    threads: int
    name: str
    on_cpu: ClassVar[bool] = True
    """Whether this machine's processor does the arithmetic."""

    @property
    def converts(self) -> bool:
        """Whether each file takes seconds before it runs: too long for all parts of a network, one by one."""
        return False

    def __post_init__(self) -> None:
        if not isinstance(self.threads, int) or not 1 <= self.threads <= cores():
            raise InputError(f"threads must be from 1 to {cores()}, the cores of this machine, not {self.threads!r}")

    @abc.abstractmethod
    def call(self, file: Path, batch: int) -> Call:
        """``file`` loaded and called once on random input; what is returned calls it again.

        Made on the cores that it is timed on, so that threads that it starts stay there. Raises InputError.
        """

    @abc.abstractmethod
    def outputs(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What :meth:`run` gives."""

    def running(self) -> contextlib.AbstractContextManager[object]:
        """What must hold of this process while calls are made and run, such as torch's threads."""
        return contextlib.nullcontext()

    def run(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See ``targets.target.Target``."""
        admit(file, self.name, self.threads)
        yield from self.outputs(file, batches)

    def latencies(
        self,
        files: Sequence[Path],
        *,
        runs: int = 200,
        min_time_s: float = 0.3,
        budget_s: float | None = None,
        batch: int = 1,
    ) -> list[Latency]:
        """As :meth:`latency_ms` for several files, in interleaved rounds, so that their ratios are fair.

        ``budget_s`` bounds the seconds spent on each file.
        """
        refuse_nonsense(runs, batch, budget_s)
        if not files:
            return []
        for file in files:
            admit(file, self.name, self.threads, batch)
        with pinned(self.threads) as cpu, self.running():
            return interleaved(
                [self.call(file, batch) for file in files],
                reference(),
                threads=self.threads,
                cpu=cpu,
                runs=runs,
                min_time_s=min_time_s,
                budget_s=budget_s,
            )


@functools.lru_cache(maxsize=1)
def _reference_file() -> bytes:
    """A fixed 3x3 convolution, 32 channels on 16x16: some tens of microseconds."""
    weight = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "reference",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 32, 16, 16])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 32, 16, 16])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def reference() -> Call:
    """The call of fixed cost beside which everything is timed, one thread of ONNX Runtime's: the same for every target,
    because it tells how fast the machine is, not the runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(_reference_file(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((1, 32, 16, 16)).astype(np.float32)
    return functools.partial(session.run, None, {"x": x})


def reason(error: Exception) -> str:
    """A runtime's own words, in one line."""
    said = " ".join(str(error).split())
    return said[:200] if said else type(error).__name__


def lacking(runtime: str, file: Path, error: Exception) -> InputError | None:
    """Where ``error`` is of an operator that ``runtime`` lacks: which one, and the node of ``file`` that needs it."""
    words = set(re.findall(r"\w+", str(error)))
    for node in read(file).graph.node:
        if node.op_type in words and _LACKING.search(str(error)):
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            return InputError(
                f"{runtime} has no operator {kind}, which node {called(node)} of {file} needs: replace that layer, or "
                f"choose another target ({reason(error)})"
            )
    return None


_LACKING = re.compile(
    "not a registered|no op registered|no opset import|not implement|implementation for|not support|unsupported|"
    "no converter|conversionfailure|converted",
    re.IGNORECASE,
)
