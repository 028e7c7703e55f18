"""What costs time in training is not what costs time on the target: seconds an epoch beside MACs and latency.

    python benchmarks/throughput.py

Prints for ResNet-20s and for plain networks of each operator of the fit space (32 pixels, one block a stage): MACs, the
latency of the exported file (batch 1, one thread), and seconds for 50,000 images of training on all cores: in the
precision that ``autocast`` picks on this device, with the allocator as the system sets it; then with freed memory kept,
as every training of Sartor has it, in fp32 and in bf16.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from front import resnet20
from torch import nn

from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models import build
from sartor.space import conv_space
from sartor.train.device import autocast, keep_freed_memory, pick_device, place

BATCH = 256


def uniform(operator: str, width: int) -> nn.Module:
    space = conv_space(32, width=width, depth=1, operators=(operator,))
    options: dict[str, Any] = dict(space.largest())
    for name in options:
        if name.endswith((".se", ".kernel", ".expand")):
            options[name] = {"se": False, "kernel": 3, "expand": 4 if operator == "mbconv" else 2}[name.split(".")[1]]
    return build(space.canonical(options), channels=3, classes=10, full_resolution=32)


def seconds_an_epoch(model: nn.Module, precision: torch.autocast | None = None) -> float:
    device = pick_device()
    precision = autocast(device) if precision is None else precision
    model = place(model.train(), device)
    images = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,), device=device)
    taken = []
    for _ in range(8):
        begin = time.perf_counter()
        with precision:
            loss = F.cross_entropy(model(images).float(), labels)
        loss.backward()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[2:]) * 50_000 / BATCH


def main() -> None:
    networks = {f"ResNet-20, width {w}": partial(resnet20, w) for w in (8, 16, 32)}
    for operator in ("residual", "pooled", "fused", "mbconv"):
        networks |= {f"{operator}, width {w}": partial(uniform, operator, w) for w in (32, 64)}
    plain = {name: seconds_an_epoch(make()) for name, make in networks.items()}
    keep_freed_memory()
    print(f"{'network':22} {'M MACs':>7} {'latency ms':>11} {'s an epoch':>11} {'kept, fp32':>11} {'kept, bf16':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in networks.items():
            file = Path(folder) / "model.onnx"
            export_onnx(make(), (3, 32, 32), file, draft=True)
            latency = OnnxRuntime(1).latency_ms(file).median_ms
            macs = counts(make(), (3, 32, 32)).macs / 1e6
            print(f"{name:22} {macs:7.1f} {latency:11.3f} {plain[name]:11.1f}", end="")
            for enabled in (False, True):
                precision = torch.autocast(pick_device().type, torch.bfloat16, enabled=enabled)
                print(f" {seconds_an_epoch(make(), precision):11.1f}", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
