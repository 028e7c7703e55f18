"""The weight gradient of a bf16 convolution on a CPU: oneDNN's, or patches and one matrix product?

    python benchmarks/convolution.py

Batches of 256, channels last, all cores. Prints the medians of both in milliseconds, and which one training takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from sartor.train.convolution import pays, weight_gradient
from sartor.train.device import keep_freed_memory

SHAPES = (  # channels in, out, kernel, stride, side
    (3, 64, 3, 2, 32),
    (16, 16, 3, 1, 32),
    (32, 32, 3, 1, 16),
    (64, 64, 3, 1, 16),
    (64, 128, 3, 2, 16),
    (64, 128, 1, 2, 16),
    (128, 128, 3, 1, 8),
    (128, 256, 3, 2, 8),
    (128, 256, 1, 2, 8),
    (192, 384, 3, 2, 8),
    (256, 256, 3, 1, 4),
    (384, 384, 3, 1, 4),
    (256, 256, 3, 1, 8),
)


def milliseconds(run: Callable[[], Any], repeats: int = 15) -> float:
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(taken[3:])


def main() -> None:
    keep_freed_memory()
    print(f"{'in':>4} {'out':>4} {'kernel':>6} {'stride':>6} {'side':>4} {'oneDNN':>8} {'product':>8}  taken")
    for c_in, c_out, kernel, stride, side in SHAPES:
        x = torch.randn(256, c_in, side, side).to(torch.bfloat16, memory_format=torch.channels_last)
        weight = torch.randn(c_out, c_in, kernel, kernel).to(torch.bfloat16, memory_format=torch.channels_last)
        pad = kernel // 2
        gradient = torch.randn_like(torch.conv2d(x, weight, None, stride, pad))
        sizes = ([stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, [False, True, False])

        def onednn(x=x, w=weight, g=gradient, sizes=sizes) -> Any:
            return torch.ops.aten.convolution_backward(g, x, w, None, *sizes)

        def product(x=x, g=gradient, k=kernel, s=stride, pad=pad) -> Any:
            return weight_gradient(x, g, k, s, pad)

        theirs, ours = milliseconds(onednn), milliseconds(product)
        taken = "product" if pays(kernel, stride, pad, gradient.shape[-2:].numel()) else "oneDNN"
        print(f"{c_in:4} {c_out:4} {kernel:6} {stride:6} {side:4} {theirs:8.2f} {ours:8.2f}  {taken}")


if __name__ == "__main__":
    main()
