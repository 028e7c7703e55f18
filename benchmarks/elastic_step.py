"""What a training step of an elastic network costs at its largest arch, beside the plain model's.

    python benchmarks/elastic_step.py [--models timm:resnet18,timm:mobilenetv3_small_100,timm:vit_tiny_patch16_224]

Forward and backward of eight images, the two in turns, medians; also a step at the smallest arch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from sartor.models.elastic import elastify
from sartor.models.zoo import open_model

MODELS = "timm:resnet18,timm:mobilenetv3_small_100,timm:vit_tiny_patch16_224"


def seconds(step: Callable[[], torch.Tensor]) -> float:
    begin = time.perf_counter()
    step().sum().backward()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name in options.models.split(","):
        opened = open_model(name)
        model = opened.module.eval()
        supernet = elastify(model, opened.inputs).train()
        images = torch.randn(8, *opened.image_shape)
        steps: dict[str, Callable[[], torch.Tensor]] = {
            "plain": partial(model, images),
            "largest": partial(supernet, images),
            "smallest": partial(supernet, images, supernet.space.smallest()),
        }
        times: dict[str, list[float]] = {key: [] for key in steps}
        for repeat in range(options.repeats + 2):
            for key, step in steps.items():
                taken = seconds(step)
                if repeat >= 2:  # the first warm up
                    times[key].append(taken)
        plain, largest, smallest_s = (median(times[key]) for key in steps)
        print(
            f"{name:34} plain {1e3 * plain:7.1f} ms, largest arch {largest / plain:.3f} of it, "
            f"smallest arch {smallest_s / plain:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
