"""Language models on several runtimes: how fast they read and write, what memory they take, how right they stay.

Both phases are timed from their files (:class:`sartor.models.gpt.Prefill`, :class:`sartor.models.gpt.Decode`), by the
targets that time everything else; accuracy is that of the file in the runtime, on real text.

Source: Laskaridis et al., "MELTing point" (arXiv 2403.12844), sections 3 and 4: prefill and generation apart, peak
memory, accuracy of quantised models, headless on any device. Their energy is not here: it needs a meter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sartor.compress.dynamic import quantize_dynamic
from sartor.errors import InputError
from sartor.export.onnx import onnx_with, write_onnx
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Target
from sartor.measure.timing import Latency
from sartor.measure.trial import peak_rss_bytes
from sartor.models.gpt import Decode, Gpt, Prefill

Interval = tuple[float, float]
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Said:
    """What a model says of real text, with 95 % intervals over its windows: perplexity of the next token, the share of
    next tokens that it finds first, and the share of places where that is what the module in PyTorch says."""

    perplexity: float
    perplexity_ci: Interval
    accuracy: float
    accuracy_ci: Interval
    agreement: float


@dataclass(frozen=True)
class Bench:
    """One precision of a model on one target. Tokens a second with the interval of their median; ``spread``: the
    largest over the smallest of the repeats, less 1, of the phase in which they differ more. ``peak_rss_bytes``: of a
    process that loads and calls both files; ``added_rss_bytes``: of that, what came after the runtime itself.
    ``missing``: why the target does not run it, and then nothing else is known but its size.
    """

    target: str
    threads: int
    precision: str
    prompt: int
    context: int
    size_bytes: int
    prefill_tokens_per_s: float = 0.0
    prefill_ci: Interval = (0.0, 0.0)
    decode_tokens_per_s: float = 0.0
    decode_ci: Interval = (0.0, 0.0)
    spread: float = 0.0
    disturbed: bool = False
    peak_rss_bytes: int = 0
    added_rss_bytes: int = 0
    said: Said | None = None
    missing: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def language_files(model: Gpt, prompt: int, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Precision → the files that read a prompt of ``prompt`` tokens and that make the next, in ``folder``.

    Raises InputError for a prompt that leaves no room, and where the model cannot be exported.
    """
    if not 1 <= prompt < model.context:
        raise InputError(f"a prompt has from 1 to {model.context - 1} tokens, one less than the context, not {prompt}")
    tokens = torch.zeros(1, prompt, dtype=torch.int64)
    with torch.no_grad():
        _, keys, values = Prefill(model)(tokens)
    step = {"token": tokens[:, :1], "position": torch.tensor([prompt]), "keys": keys, "values": values}
    files = {name: (folder / f"prefill-{name}.onnx", folder / f"decode-{name}.onnx") for name in PRECISIONS}
    write_onnx(onnx_with(Prefill(model), (tokens,)), files["fp32"][0])
    write_onnx(onnx_with(Decode(model), step), files["fp32"][1])
    for plain, small in zip(files["fp32"], files["int8"], strict=True):
        quantize_dynamic(plain, small)
    return files


def language_bench(
    model: Gpt,
    windows: np.ndarray,
    folder: Path,
    *,
    targets: Sequence[str] = ("onnxruntime", "openvino"),
    threads: int = 1,
    runs: int = 100,
    repeats: int = 2,
    budget_s: float | None = None,
) -> list[Bench]:
    """``model`` in fp32 and int8 on each of ``targets``.

    ``windows``: text that it has not seen, int64 [n, prompt + 1] tokens, each window's last only to be guessed. Files
    are written to ``folder``. A target's files are timed side by side, ``repeats`` times over, each for ``budget_s``
    seconds at most. Raises InputError for windows that are none, for a target that is not there, and where no target
    runs anything.
    """
    if windows.ndim != 2 or len(windows) < 2 or windows.dtype != np.int64 or repeats < 1:
        raise InputError("a bench takes two windows of int64 tokens [n, prompt + 1] at least, and one repeat")
    if windows.size and (windows.min() < 0 or windows.max() >= model.words):
        raise InputError(f"a window holds tokens that the model does not know: it has {model.words} words")
    prompt = windows.shape[1] - 1
    files = language_files(model, prompt, folder)
    with torch.inference_mode():
        expected = np.stack([model(torch.from_numpy(row[None, :-1]))[0].argmax(1).numpy() for row in windows])
    found = []
    for name in targets:
        target = open_target(name, threads)
        if not isinstance(target, Local):
            raise InputError(f"language models are timed on this machine, not on {target.name}: its memory is not told")
        runnable: dict[str, Said] = {}
        missing: dict[str, str] = {}
        for precision, (prefill, decode) in files.items():
            try:
                target.latencies([decode], runs=1, min_time_s=0.0)
                runnable[precision] = _said(target, prefill, windows, expected)
            except InputError as error:
                missing[precision] = str(error)
        timed = [file for precision in runnable for file in files[precision]]
        rounds = [target.latencies(timed, runs=runs, budget_s=budget_s) for _ in range(repeats)]
        for precision, (prefill, decode) in files.items():
            size = decode.stat().st_size
            about = (target.name, threads, precision, prompt, model.context, size)
            if precision in missing:
                found.append(Bench(*about, missing=missing[precision]))
                continue
            place = 2 * list(runnable).index(precision)
            most, added = peak_rss_bytes([prefill, decode], name, threads)
            times = [(row[place], row[place + 1]) for row in rounds]
            found.append(_bench(about, times, runnable[precision], most, added))
    if all(row.missing for row in found):
        raise InputError(f"no target runs this model: {found[0].missing if found else 'none was given'}")
    return found


def _bench(
    about: tuple[str, int, str, int, int, int], times: list[tuple[Latency, Latency]], said: Said, most: int, added: int
) -> Bench:
    prompt = about[3]
    first = times[0]
    medians = np.array([[latency.median_ms for latency in row] for row in times])
    return Bench(
        *about,
        prefill_tokens_per_s=1e3 * prompt / first[0].median_ms,
        prefill_ci=(1e3 * prompt / first[0].ci_ms[1], 1e3 * prompt / first[0].ci_ms[0]),
        decode_tokens_per_s=1e3 / first[1].median_ms,
        decode_ci=(1e3 / first[1].ci_ms[1], 1e3 / first[1].ci_ms[0]),
        spread=float((medians.max(0) / medians.min(0)).max() - 1),
        disturbed=any(latency.disturbed for row in times for latency in row),
        peak_rss_bytes=most,
        added_rss_bytes=added,
        said=said,
    )


def _said(target: Target, file: Path, windows: np.ndarray, expected: np.ndarray) -> Said:
    losses, right, alike = [], [], []
    given = (np.ascontiguousarray(row[None, :-1]) for row in windows)
    for row, first, logits in zip(windows, expected, target.run(file, given), strict=True):
        scores = logits[0].astype(np.float64)
        highest = scores.max(1, keepdims=True)
        logs = scores - highest - np.log(np.exp(scores - highest).sum(1, keepdims=True))
        losses.append(-logs[np.arange(len(logs)), row[1:]].mean())
        right.append(float((scores.argmax(1) == row[1:]).mean()))
        alike.append(float((scores.argmax(1) == first).mean()))
    loss, low, high = _mean_interval(losses)
    accuracy = _mean_interval(right)
    perplexity = float(np.exp(loss)), (float(np.exp(low)), float(np.exp(high)))
    accuracy_ci = (max(0.0, accuracy[1]), min(1.0, accuracy[2]))
    return Said(*perplexity, accuracy[0], accuracy_ci, float(np.mean(alike)))


def _mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and between what it lies with 95 % confidence; windows are independent draws, Student's t."""
    from scipy import stats

    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
