"""Do the layers' times sum to the network's latency, and what bounds them?

    python benchmarks/roofline.py [--networks NAME,…] [--threads 1] [--json]

Networks are as ONNX Runtime runs them; ``:int8`` quantises one. The latency is measured without any
profile, once before and once after the layers are, and the mean of the two is compared: a machine that changes
meanwhile shows in their difference. Layers are taken as they are, and nothing is scaled to fit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sartor.compress.quantize import quantize_int8
from sartor.measure.feeds import inputs
from sartor.measure.file_of import onnx_of
from sartor.measure.layers.measured import layers
from sartor.measure.layers.roof import roof
from sartor.measure.targets.onnxruntime import OnnxRuntime

NETWORKS = (
    "timm:resnet18 timm:resnet18:int8 timm:mobilenetv3_small_100 timm:mobilenetv3_small_100:int8 timm:mobilenetv2_100 "
    "timm:efficientnet_b0 timm:convnext_atto timm:densenet121 timm:vit_tiny_patch16_224 "
    "timm:swin_tiny_patch4_window7_224 torchvision:shufflenet_v2_x1_0 timm:regnety_002 timm:ghostnet_100"
)
WITHIN = 0.10
"""Of the latency: how far the sum may be off."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS.split()))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    target = OnnxRuntime(arguments.threads)
    under = roof(target)
    rows = []
    if not arguments.json:
        print(f"{under.peak_macs_per_s / 1e9:.1f} GMAC/s, {under.bytes_per_s / 1e9:.1f} GB/s, ridge {under.ridge:.1f}")
        print(f"{'network':40} {'latency ms':>10} {'sum ms':>8} {'ratio':>6}  bound by")
    for name in arguments.networks.split(","):
        rows.append(_row(name, target))
        if not arguments.json:
            row = rows[-1]
            shares = ", ".join(f"{bound} {share:.0%}" for bound, share in row["bound"].items())
            restless = "  (restless)" if row["disturbed"] else ""
            sums = f"{row['latency_ms']:10.3f} {row['sum_ms']:8.3f} {row['ratio']:6.3f}"
            print(f"{name:40} {sums}  {shares}{restless}", flush=True)
    worst = max(abs(row["ratio"] - 1) for row in rows)
    if arguments.json:
        print(json.dumps({"roof": under.to_dict(), "networks": rows, "worst": worst}, indent=2))
    else:
        print(f"worst: {worst:.1%} off, asked {WITHIN:.0%}")
    sys.exit(worst > WITHIN)


def _row(name: str, target: OnnxRuntime) -> dict[str, Any]:
    plain, narrow = name.removesuffix(":int8"), name.endswith(":int8")
    with onnx_of(plain) as file, tempfile.TemporaryDirectory() as folder:
        if narrow:
            (_, shape, _), *_ = inputs(file, 4)
            images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            file, wide = Path(folder) / "int8.onnx", file
            quantize_int8(wide, file, [images], method="minmax")
        before = target.latency_ms(file, runs=30)
        found = layers(file, target)
        after = target.latency_ms(file, runs=30)
    latency_ms, sum_ms = (before.median_ms + after.median_ms) / 2, sum(layer.time_ms for layer in found)
    shares: dict[str, float] = {}
    for layer in sorted(found, key=lambda layer: layer.bound):
        shares[layer.bound] = shares.get(layer.bound, 0.0) + layer.share
    return {
        "name": name,
        "latency_ms": latency_ms,
        "sum_ms": sum_ms,
        "ratio": sum_ms / latency_ms,
        "layers": len(found),
        "bound": shares,
        "disturbed": before.disturbed or after.disturbed,
    }


if __name__ == "__main__":
    main()
