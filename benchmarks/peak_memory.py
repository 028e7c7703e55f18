"""Is the planned peak of activations what ONNX Runtime's arena really used? And what would a better order need?

    python benchmarks/peak_memory.py [NAME ...]

Each network is exported (batch open), planned, and run in a process of its own with one thread, an arena that gives
what is asked for (no growth by doubling) and no memory pattern, once on zeros. ONNX Runtime's profiler tells after each
node how many bytes its arena has in use. ``arena``: the most after any node, weights and packed weights subtracted.
``scratch``: how much more kernels had inside a node; where loading the weights had more in use than any node, the
profiler only bounds it, and it says ``<``. The input is the caller's array, so here it is in neither number.

``live``: the exporter's order when memory is free as soon as its tensor is dead; ``planned``: the best order found
(``*``: proven best); ``offsets``: the block that holds it, addresses and all. These three include the input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_NAMES_LIST = (
    "torchvision:resnet18 torchvision:mobilenet_v2 torchvision:mobilenet_v3_small torchvision:squeezenet1_1 "
    "torchvision:shufflenet_v2_x1_0 torchvision:densenet169 torchvision:googlenet torchvision:mnasnet0_5 "
    "torchvision:swin_t timm:vit_tiny_patch16_224 timm:convnext_atto timm:efficientnet_b0 timm:regnety_002 "
    "timm:ghostnetv2_100 timm:mobilenetv4_conv_small timm:res2net50_26w_4s timm:inception_v3 "
    "timm:hrnet_w18_small timm:mixer_s32_224 timm:poolformerv2_s12 timm:repvit_m0_9 timm:rexnet_100"
)
NAMES = _NAMES_LIST.split()


def measure(file: str) -> dict[str, Any]:
    """What the arena had in use, in this process, whose arena is nobody else's."""
    import numpy as np
    import onnxruntime as ort

    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # No limit, extended by what is asked for, from one page on, chunks split where 256 bytes are left.
    ort.create_and_register_allocator(info, ort.OrtArenaCfg(0, 1, 4096, 256))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.enable_profiling = True
    options.log_severity_level = 3
    options.profile_file_prefix = str(Path(file).with_suffix(""))
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0]
    session.run(None, {feed.name: np.zeros([1, *feed.shape[1:]], np.float32)})
    events = [e["args"] for e in json.loads(Path(session.end_profiling()).read_text()) if e.get("cat") == "Node"]
    if "mem_bytes_in_use" not in events[0]:
        raise SystemExit("this ONNX Runtime's profiler does not tell what its arena has in use: take 1.32 or later")
    before = int(events[0]["mem_bytes_in_use"]) - int(events[0]["mem_in_use_delta"])
    after = max(int(event["mem_bytes_in_use"]) for event in events) - before
    peaks = [int(event["mem_in_use_peak"]) - before for event in events]
    return {"arena": after, "inside": peaks[-1], "known": peaks[-1] > peaks[0] or peaks[-1] == after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--measure", metavar="FILE", help="only print what this file's run has in use, as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return

    from sartor.errors import InputError
    from sartor.export.onnx import export_onnx
    from sartor.measure.plan.onnx_file import plan_file, runtime_plan
    from sartor.measure.plan.steps import most_at_once
    from sartor.measure.runnable import optimised
    from sartor.models.zoo import open_model

    print("| network | predicted | arena | error | scratch | live | planned | offsets |\n" + "|---" * 8 + "|")
    errors, worse = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            file = Path(folder) / "model.onnx"
            try:
                opened = open_model(name)
                try:
                    export_onnx(opened.module, opened.image_shape, file, draft=True)
                except InputError:
                    export_onnx(opened.module, opened.image_shape, file)
            except InputError as error:
                print(f"| {name} | {error} |")
                continue
            predicted = most_at_once([b for b in runtime_plan(optimised(file), file) if b.first >= 0])
            command = [sys.executable, __file__, "--measure", str(file)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            plan = plan_file(file)
            errors.append(predicted / found["arena"] - 1)
            worse += plan.peak_bytes > plan.given_peak_bytes
            scratch = f"{'' if found['known'] else '< '}{found['inside'] - found['arena']:,}"
            best = f"{plan.peak_bytes:,}{'*' if plan.exact else ''}"
            print(
                f"| {name} | {predicted:,} | {found['arena']:,} | {100 * errors[-1]:+.2f} % | {scratch} "
                f"| {plan.given_peak_bytes:,} | {best} | {plan.arena_bytes:,} |",
                flush=True,
            )
    within = sum(abs(error) <= 0.05 for error in errors)
    print(f"\nwithin 5 % of the arena on {within} of {len(errors)}; the planned order is worse on {worse}")


if __name__ == "__main__":
    main()
