"""As-ViT's progressive tokens: a transformer trained on a quarter of the tokens first, beside one on all of them.

    python benchmarks/coarse_tokens.py --seeds 1,2,3 --steps 2000

scikit-learn's digits, blown up to 16 pixels a side, so that neighbours tell much the same, as in photos: half to train
on, half to validate with. Prints the accuracy of both, and the processor's time and the tokens of one as shares of the
other's; a few minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

import local_tables as tables

from sartor.models.torchvision_ops import define_missing_ops
from sartor.train.tokens import coarser, factor_at

SIDE, PATCH = 16, 4
PLAIN = ((0.0, 1),)
COARSE = ((0.0, 2), (0.25, 1))
BATCH, LR, DECAY, WARMUP = 64, 3e-3, 0.05, 0.1


@dataclass(frozen=True)
class Training:
    """``accuracy`` on the validation images [0, 1], and what it cost: ``tokens`` that went through the layers."""

    accuracy: float
    seconds: float
    tokens: int


def network() -> nn.Module:
    define_missing_ops()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=SIDE,
        patch_size=PATCH,
        in_chans=1,
        num_classes=10,
        embed_dim=32,
        depth=2,
        num_heads=4,
        mlp_ratio=2,
        dynamic_img_size=True,
    )


def blown_up(x: Tensor) -> Tensor:
    return F.interpolate(x[:, :1], (SIDE, SIDE), mode="bilinear")


def trained(seed: int, stages: Sequence[tuple[float, int]], steps: int) -> Training:
    data = tables.digits()
    x, held = blown_up(data.x), blown_up(data.held_x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network().train()
        optimiser = torch.optim.AdamW(net.parameters(), LR, weight_decay=DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: min(1.0, (s + 1) / (WARMUP * steps)) * (1 + math.cos(math.pi * s / steps)) / 2
        )
        began, tokens = time.process_time(), 0
        for step in range(steps):
            rows, factor = torch.randint(len(x), (BATCH,)), factor_at(step / steps, stages)
            with coarser(net.patch_embed.proj, factor):
                optimiser.zero_grad()
                F.cross_entropy(net(x[rows]), data.y[rows]).backward()
            optimiser.step()
            schedule.step()
            tokens += BATCH * (1 + (SIDE // PATCH // factor) ** 2)
        seconds = time.process_time() - began
        with torch.no_grad():
            right = (net.eval()(held).argmax(dim=1) == data.held_y).float().mean()
    return Training(float(right), seconds, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in map(int, options.seeds.split(",")):
        plain, coarse = (trained(seed, stages, options.steps) for stages in (PLAIN, COARSE))
        shares = f"{coarse.seconds / plain.seconds:.2f} of the time, {coarse.tokens / plain.tokens:.2f} of the tokens"
        print(f"seed {seed}: all tokens {plain.accuracy:.3f}, coarse first {coarse.accuracy:.3f}; {shares}", flush=True)


if __name__ == "__main__":
    main()
