"""Files by slicing: how long it takes beside exporting anew, and whether the answers are the same.

    python benchmarks/slicing.py [--models timm:resnet18,timm:vit_tiny_patch16_224,...] [--cuts 5]

For each network: seconds to learn what its file's constants stand for (once), then for random cuts to half, in turns,
the milliseconds that slicing the whole file and exporting the cut network take (medians), and the largest difference of
the two files' logits, relative to the largest logit.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort

from sartor.errors import InputError
from sartor.export.onnx import onnx_of, write_onnx
from sartor.export.slicing import OnnxSlicer
from sartor.graph import trace
from sartor.models.zoo import open_model

MODELS = "timm:resnet18,timm:mobilenetv3_small_100,timm:regnety_004,timm:convnext_atto,timm:vit_tiny_patch16_224"


def logits(file: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    said: np.ndarray = session.run(None, {"images": images})[0]
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--cuts", type=int, default=5)
    options = parser.parse_args()
    print(f"{'network':34} {'learn s':>8} {'slice ms':>9} {'export ms':>10} {'draft ms':>9} {'error':>8}")
    for name in options.models.split(","):
        opened = open_model(name)
        shape = opened.image_shape
        graph = trace(opened.module.eval(), opened.inputs)
        begin = time.perf_counter()
        try:
            onnx_of(opened.module, shape, draft=True)
            begin = time.perf_counter()
            slicer = OnnxSlicer(graph, shape)
        except InputError as error:
            print(f"{name:34} {error}")
            continue
        learnt = time.perf_counter() - begin
        times: dict[str, list[float]] = {"slice": [], "export": [], "draft": []}
        worst = 0.0
        images = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
        with TemporaryDirectory() as folder:
            for seed in range(options.cuts):
                cut = graph.random_cut(0.5, seed)
                small = graph.slice(cut)
                files = {kind: Path(folder) / f"{kind}.onnx" for kind in times}
                for kind, file in files.items():
                    begin = time.perf_counter()
                    proto = slicer.cut(cut) if kind == "slice" else onnx_of(small, shape, draft=kind == "draft")
                    write_onnx(proto, file)
                    times[kind].append(1e3 * (time.perf_counter() - begin))
                expected = logits(files["export"], images)
                off = np.abs(logits(files["slice"], images) - expected).max() / np.abs(expected).max()
                worst = max(worst, float(off))
        slicing, export, draft = (median(times[kind]) for kind in ("slice", "export", "draft"))
        print(f"{name:34} {learnt:8.1f} {slicing:9.1f} {export:10.1f} {draft:9.1f} {worst:8.1e}", flush=True)


if __name__ == "__main__":
    main()
