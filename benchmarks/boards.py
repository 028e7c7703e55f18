"""How far the simulated microcontrollers are from what was published: ``python benchmarks/boards.py``.

Builds the networks of the published tables and asks ``mcu:`` for each, and for the memory of MCUNet's. Prints, before
that, the cycles that ``targets/mcu/boards.py`` holds, fitted to the rows marked so, and the error of each row when its
network is left out.

Where the figures come from: STMicroelectronics/stm32ai-modelzoo, image_classification (mobilenetv1, mobilenetv2 and
resnetv1, README of each: STM32H747I-DISCO, 400 MHz, STM32Cube.AI 8.1 and 10.0); mlcommons/tiny_results_v1.0,
closed/STMicroelectronics (NUCLEO-H7A3ZI-Q, 280 MHz; NUCLEO_L4R5ZI, 120 MHz; medians of performance/results.txt);
mit-han-lab/tinyengine, README (STM32H743, X-CUBE-AI 7.3.0 and TinyEngine; the clock is not said there);
espressif/esp-tflite-micro, README (ESP32-S3, 240 MHz, person detection).
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import nn

from sartor.compress.quantize import quantize_int8
from sartor.export.onnx import export_onnx
from sartor.measure.targets.mcu.target import Mcu
from sartor.measure.targets.named import open_target
from sartor.measure.targets.work import KINDS, Work, work_of


def _layer(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    parts: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    return nn.Sequential(*parts, *([nn.ReLU()] if act else []))


def _head(channels: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def mobilenet_v1(width: float, classes: int, channels: int = 3) -> nn.Sequential:
    """Howard et al. (arXiv 1704.04861), table 1, of which MLPerf Tiny's and ST's are scaled versions."""
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    last = int(32 * width)
    parts: list[nn.Module] = [_layer(channels, last, 3, 2)]
    for filters, stride in plan:
        wide = int(filters * width)
        parts += [_layer(last, last, 3, stride, last), _layer(last, wide)]
        last = wide
    return nn.Sequential(*parts, *_head(last, classes))


class Inverted(nn.Module):
    """An inverted residual."""

    def __init__(self, cin: int, cout: int, expand: int, kernel: int, stride: int):
        super().__init__()
        mid = cin * expand
        first = [] if expand == 1 else [_layer(cin, mid)]
        self.body = nn.Sequential(*first, _layer(mid, mid, kernel, stride, mid), _layer(mid, cout, act=False))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2(width: float, classes: int) -> nn.Sequential:
    """Sandler et al. (arXiv 1801.04381), table 2, as Keras builds it: the last convolution never below 1280."""
    scaled = lambda c: max(8, int(c * width + 4) // 8 * 8)
    last = scaled(32)
    parts: list[nn.Module] = [_layer(3, last, 3, 2)]
    for expand, filters, times, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for number in range(times):
            parts.append(Inverted(last, scaled(filters), expand, 3, stride if number == 0 else 1))
            last = scaled(filters)
    top = scaled(1280) if width > 1 else 1280
    return nn.Sequential(*parts, _layer(last, top), *_head(top, classes))


def mcunet(first: int, blocks: Sequence[tuple[int, int, int, int]], classes: int = 1000) -> nn.Sequential:
    """Lin et al. (arXiv 2007.10319): the networks of the model zoo; blocks are (expand, filters, stride, kernel)."""
    last = first
    parts: list[nn.Module] = [_layer(3, first, 3, 2)]
    for expand, filters, stride, kernel in blocks:
        parts.append(Inverted(last, filters, expand, kernel, stride))
        last = filters
    return nn.Sequential(*parts, *_head(last, classes))


IN0 = [
    (1, 16, 1, 3), (4, 16, 2, 5), (3, 16, 1, 3), (4, 16, 1, 3), (5, 24, 2, 7), (4, 24, 1, 5), (5, 24, 1, 5),
    (5, 48, 2, 7), (4, 48, 1, 5), (5, 56, 1, 3), (4, 56, 1, 5), (5, 56, 1, 3), (6, 112, 2, 3), (4, 112, 1, 5),
    (6, 192, 1, 3),
]  # fmt: skip
IN1 = [
    (1, 8, 1, 3), (4, 16, 2, 3), (3, 16, 1, 3), (3, 24, 2, 7), (5, 24, 1, 3), (5, 40, 2, 3), (4, 40, 1, 7),
    (4, 48, 1, 5), (3, 48, 1, 3), (4, 48, 1, 3), (5, 96, 2, 7), (4, 96, 1, 5), (4, 96, 1, 5), (6, 160, 1, 3),
]  # fmt: skip
IN2 = [
    (1, 8, 1, 3), (3, 16, 2, 5), (6, 16, 1, 7), (5, 16, 1, 3), (5, 16, 1, 5), (5, 24, 2, 3), (6, 24, 1, 7),
    (6, 24, 1, 5), (4, 40, 2, 7), (5, 40, 1, 5), (5, 48, 1, 3), (5, 48, 1, 5), (4, 48, 1, 3), (6, 96, 2, 5),
    (4, 96, 1, 5), (3, 96, 1, 5), (4, 96, 1, 3), (5, 160, 1, 5),
]  # fmt: skip
IN3 = [
    (1, 8, 1, 3), (3, 16, 2, 7), (5, 16, 1, 3), (5, 16, 1, 7), (4, 16, 1, 5), (5, 24, 2, 5), (5, 24, 1, 5),
    (5, 24, 1, 5), (5, 40, 2, 3), (6, 40, 1, 7), (4, 40, 1, 5), (5, 48, 1, 5), (5, 48, 1, 7), (5, 48, 1, 3),
    (6, 96, 2, 3), (5, 96, 1, 7), (4, 96, 1, 3), (5, 160, 1, 7),
]  # fmt: skip
IN4 = [
    (1, 16, 1, 3), (3, 24, 2, 7), (5, 24, 1, 3), (4, 24, 1, 5), (5, 40, 2, 7), (4, 40, 1, 3), (4, 40, 1, 7),
    (3, 80, 2, 7), (3, 80, 1, 3), (3, 80, 1, 7), (4, 96, 1, 3), (3, 96, 1, 5), (3, 96, 1, 5), (4, 192, 2, 7),
    (3, 192, 1, 7), (3, 192, 1, 5), (4, 320, 1, 5),
]  # fmt: skip


class Residual(nn.Module):
    """Two 3x3 convolutions and what goes around them."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(_layer(cin, cout, 3, stride), _layer(cout, cout, 3, act=False))
        self.around = nn.Identity() if stride == 1 else nn.Conv2d(cin, cout, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.around(x))


def resnet_v1(per_stage: int, classes: int) -> nn.Sequential:
    """MLPerf Tiny's ResNet-8 (one a stage) and ST's of 32 layers (five)."""
    parts: list[nn.Module] = [_layer(3, 16, 3)]
    for stage, (cin, cout) in enumerate(((16, 16), (16, 32), (32, 64))):
        parts.append(Residual(cin, cout, 1 if stage == 0 else 2))
        parts += [Residual(cout, cout, 1) for _ in range(per_stage - 1)]
    return nn.Sequential(*parts, *_head(64, classes))


def ds_cnn() -> nn.Sequential:
    """MLPerf Tiny's keyword spotting: Zhang et al. (arXiv 1711.07128), its small network."""
    first = nn.Sequential(nn.Conv2d(1, 64, (10, 4), 2, (4, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU())
    blocks = [part for _ in range(4) for part in (_layer(64, 64, 3, 1, 64), _layer(64, 64))]
    return nn.Sequential(first, *blocks, *_head(64, 12))


def auto_encoder() -> nn.Sequential:
    """MLPerf Tiny's anomaly detection: fully connected, 640 values."""
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    parts: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in itertools.pairwise(sizes):
        parts += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


@dataclass(frozen=True)
class Row:
    """A published latency. ``fitted``: the cycles of its core are fitted to it."""

    network: str
    target: str
    ms: float
    fitted: bool


def networks() -> dict[str, tuple[nn.Module, tuple[int, int, int]]]:
    """Those of the tables, by their names there, with their input."""
    return {
        "mobilenetv1-0.25-224": (mobilenet_v1(0.25, 5), (3, 224, 224)),
        "mobilenetv1-0.5-224": (mobilenet_v1(0.5, 5), (3, 224, 224)),
        "mobilenetv1-0.25-96": (mobilenet_v1(0.25, 5), (3, 96, 96)),
        "mobilenetv1-0.25-96-grey": (mobilenet_v1(0.25, 5, 1), (1, 96, 96)),
        "mobilenetv2-0.35-128": (mobilenet_v2(0.35, 5), (3, 128, 128)),
        "mobilenetv2-0.35-224": (mobilenet_v2(0.35, 5), (3, 224, 224)),
        "mobilenetv2-0.35-128-imagenet": (mobilenet_v2(0.35, 1000), (3, 128, 128)),
        "mobilenetv2-0.35-224-imagenet": (mobilenet_v2(0.35, 1000), (3, 224, 224)),
        "resnetv1-8": (resnet_v1(1, 10), (3, 32, 32)),
        "resnetv1-32": (resnet_v1(5, 100), (3, 32, 32)),
        "mlperf-ic": (resnet_v1(1, 10), (3, 32, 32)),
        "mlperf-kws": (ds_cnn(), (1, 49, 10)),
        "mlperf-vww": (mobilenet_v1(0.25, 2), (3, 96, 96)),
        "mlperf-ad": (auto_encoder(), (1, 1, 640)),
        "person-detection": (mobilenet_v1(0.25, 2, 1), (1, 96, 96)),
        "mcunet-in0": (mcunet(24, IN0), (3, 48, 48)),
        "mcunet-in1": (mcunet(16, IN1), (3, 96, 96)),
        "mcunet-in2": (mcunet(16, IN2), (3, 160, 160)),
        "mcunet-in3": (mcunet(16, IN3), (3, 176, 176)),
        "mcunet-in4": (mcunet(32, IN4), (3, 160, 160)),
    }


_H747 = "mcu:stm32h743,clock=400MHz"
_H7A3 = "mcu:stm32h7a3"
_L4R5 = "mcu:stm32l4r5"
PUBLISHED = (
    Row("mobilenetv1-0.25-224", _H747, 181.47, True),
    Row("mobilenetv1-0.5-224", _H747, 525.07, True),
    Row("mobilenetv1-0.25-96", _H747, 32.18, True),
    Row("mobilenetv1-0.25-96-grey", _H747, 30.99, True),
    Row("mobilenetv2-0.35-128", _H747, 94.34, True),
    Row("mobilenetv2-0.35-224", _H747, 290.75, True),
    Row("mobilenetv2-0.35-128-imagenet", _H747, 116.13, True),
    Row("mobilenetv2-0.35-224-imagenet", _H747, 313.92, True),
    Row("resnetv1-8", _H747, 28.67, True),
    Row("resnetv1-32", _H747, 177.7, True),
    Row("mlperf-ic", _H7A3, 1e3 / 18.401, True),
    Row("mlperf-kws", _H7A3, 1e3 / 59.667, True),
    Row("mlperf-vww", _H7A3, 1e3 / 19.722, True),
    Row("mlperf-ad", _H7A3, 1e3 / 547.705, True),
    Row("mlperf-ic", _L4R5, 1e3 / 4.407, True),
    Row("mlperf-kws", _L4R5, 1e3 / 13.323, True),
    Row("mlperf-vww", _L4R5, 1e3 / 4.339, True),
    Row("mlperf-ad", _L4R5, 1e3 / 131.950, True),
    Row("person-detection", "mcu:esp32s3", 54.0, True),
    Row("mcunet-in0", "mcu:stm32h743", 35.0, False),
    Row("mcunet-in1", "mcu:stm32h743", 63.0, False),
    Row("mcunet-in2", "mcu:stm32h743", 351.0, False),
    Row("mcunet-in3", "mcu:stm32h743", 414.0, False),
    Row("mcunet-in4", "mcu:stm32h743", 516.0, False),
)


def files(folder: Path) -> dict[str, Path]:
    """A file of each network, with fresh weights: no latency here depends on them."""
    made = {}
    for name, (network, shape) in networks().items():
        made[name] = folder / f"{name}.onnx"
        export_onnx(network.eval(), shape, made[name], draft=True)
    return made


def features(work: Sequence[Work]) -> np.ndarray:
    """What cycles are fitted to: multiply-accumulates by kind, and values written or read by the rest."""
    counts = dict.fromkeys((*KINDS, "written"), 0)
    for item in work:
        counts[item.kind] += item.macs if item.kind != "elementwise" else item.read + item.written
        counts["written"] += item.written if item.kind != "elementwise" else 0
    return np.array(list(counts.values()), float)


LEAST = [0.5, 0.5, 0.5, 0.5, 1.0, 0.0]
MOST = [np.inf, np.inf, np.inf, np.inf, 10.0, np.inf]
"""Of the fit: no core here does more than two multiply-accumulates a cycle, and an addition with its requantisation
takes some ten instructions. Totals alone say little of additions, which are few."""
CLOCKS = {_H747: 400e6, _H7A3: 280e6, _L4R5: 120e6, "mcu:esp32s3": 240e6, "mcu:stm32h743": 480e6}


def fit(made: dict[str, Path]) -> None:
    """Print the cycles of the Cortex-M7, and how many times as many the other cores take."""
    seen = {name: features(work_of(file)) for name, file in made.items()}
    rows = [row for row in PUBLISHED if row.fitted and row.target in (_H747, _H7A3)]

    def solved(kept: Sequence[Row]) -> np.ndarray:
        cycles = np.array([row.ms / 1e3 * CLOCKS[row.target] for row in kept])
        table = np.array([seen[row.network] for row in kept]) / cycles[:, None]
        return lsq_linear(table, np.ones(len(kept)), (LEAST, MOST)).x

    print(dict(zip((*KINDS, "written"), solved(rows).round(3).tolist(), strict=True)))
    errors = []
    for row in rows:
        left = solved([other for other in rows if other.network != row.network])
        errors.append(float(seen[row.network] @ left) / (row.ms / 1e3 * CLOCKS[row.target]) - 1)
        print(f"{row.network:32} {row.target:28} left out {100 * errors[-1]:+6.1f}%")
    others = [error for row, error in zip(rows, errors, strict=True) if row.network != "mlperf-ad"]
    mean = 100 * np.mean(np.abs(others))
    print(f"mean of the absolute errors, left out: {mean:.1f}%, but for mlperf-ad, the only one of dense layers")
    whole = solved(rows)
    for row in PUBLISHED:
        if row not in rows:
            ratio = row.ms / 1e3 * CLOCKS[row.target] / float(seen[row.network] @ whole)
            print(f"{row.network:32} {row.target:28} takes {ratio:.3f} times the M7's cycles")


def compare(made: dict[str, Path]) -> None:
    """Print what ``mcu:`` says beside what was published. The files are fp32; the latencies are those of 8 bits."""
    for row in PUBLISHED:
        ms = simulated_ms(row, work_of(made[row.network]))
        error = 100 * (ms / row.ms - 1)
        print(f"{row.network:32} {row.target:28} {row.ms:8.2f} ms published {ms:8.2f} ms {error:+6.1f}%")


SRAM = {"mcunet-in2": 242, "mcunet-in3": 293}
"""Kilobytes on the STM32F746: mit-han-lab/mcunet, README. With the buffers in which kernels gather their inputs."""


def memory(folder: Path) -> None:
    """Print the activations of MCUNet's networks in 8 bits: whole outputs, in place, and what the makers measured."""
    for name, kilobytes in SRAM.items():
        module, shape = networks()[name]
        wide, narrow = folder / "wide.onnx", folder / "narrow.onnx"
        export_onnx(module.eval(), shape, wide, draft=True)
        images = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        quantize_int8(wide, narrow, [images], method="minmax")
        whole, place = (Mcu("stm32f746", runtime=runtime).peak_bytes(narrow) for runtime in ("cmsis-nn", "tinyengine"))
        print(f"{name:32} {whole:9,} bytes whole {place:9,} in place {1000 * kilobytes:9,} measured by its makers")


def simulated_ms(row: Row, work: Sequence[Work]) -> float:
    """Of ``row``'s network in 8 bits: its latency on its target."""
    target = open_target(row.target)
    assert isinstance(target, Mcu)
    return sum(target.cycles(replace(item, bits=8))[0] for item in work) / target.clock_hz * 1e3


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = files(Path(folder))
        fit(made)
        compare(made)
        memory(Path(folder))
