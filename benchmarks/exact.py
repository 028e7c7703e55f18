"""How exact are the cuts? extract ≡ supernet and file ≡ network over 200 random archs of the full space.

    python benchmarks/exact.py [--archs 200]

Prints the largest absolute error relative to the output's scale (fp32, eval mode, random batch-norm statistics).
"""

from __future__ import annotations

import argparse
import random
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sartor.export.onnx import export_onnx
from sartor.export.parity import parity
from sartor.models import Supernet, build, resize
from sartor.space import conv_space


def lively(network: nn.Module) -> None:
    """Batch-norm statistics and weights as after training, not as after construction."""
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if "mean" in name:
                nn.init.normal_(buffer, std=0.2)
            elif "var" in name:
                nn.init.uniform_(buffer, 0.5, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, default=200)
    count = parser.parse_args().archs
    torch.manual_seed(0)
    space = conv_space(32, width=64, depth=2)
    supernet = Supernet(space, partial(build, channels=3, classes=10, full_resolution=32))
    lively(supernet)
    supernet.eval()
    rng = random.Random(0)
    images = torch.randn(4, 3, 32, 32)
    cut, exported = 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for _ in range(count):
            arch = space.sample(rng)
            side = int(arch["resolution"])
            subnet = supernet.extract(arch)
            shared = supernet(images, arch)
            error = (shared - subnet(resize(images, side))).abs().max() / shared.abs().max()
            cut = max(cut, float(error))
            file = Path(folder) / "model.onnx"
            export_onnx(subnet, (3, side, side), file)
            exported = max(exported, parity(subnet, file, (3, side, side)))
    print(f"extract against supernet, {count} archs: {cut:.1e}")
    print(f"ONNX file against network, {count} archs: {exported:.1e}")


if __name__ == "__main__":
    main()
