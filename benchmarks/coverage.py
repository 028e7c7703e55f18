"""Which networks can be cut, how fast, and is every cut exact?

    python benchmarks/coverage.py                       # all of ../shared/models.txt
    python benchmarks/coverage.py --models FILE --json OUT [--only TEXT]
    python benchmarks/coverage.py --names timm:resnet10t,torchvision:swin_t

Every line of FILE is ``source:name`` (timm, torchvision, torchvision.segmentation, torchvision.detection, transformers,
or ``path.py:function``). For each network: capture, groups, every group cut to a random half with a seed, the cut
network's output against the masked original's, multiply-accumulates, a backward pass, and an ONNX export, checked with
ONNX Runtime. Weights are random and no parameter is left constant, so that nothing that is cut could have been zero.
A cut network that does not export counts against Sartor only where the original does. Where no multiply-accumulate
goes, the line says what most parameters are kept by.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from sartor.errors import SartorError
from sartor.graph import Graph, trace
from sartor.graph.capture import arguments, evaluating
from sartor.graph.sliced import same_draws, smaller
from sartor.models.zoo import open_model

TOLERANCE = 1e-4


def stir(module: nn.Module, seed: int = 0) -> None:
    """Give constant parameters and statistics values, as training would: cuts of zeros are exact too easily."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not tensor.is_floating_point() or tensor.numel() < 2 or bool((tensor != tensor.flatten()[0]).any()):
            continue
        noise = torch.rand(tensor.shape, generator=generator)
        is_gain = name.endswith(("weight", "running_var", "gamma"))
        tensor.data.copy_(0.5 + noise if is_gain else noise - 0.5)


def tensors_of(output: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]


def outputs(module: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    with evaluating(module), torch.no_grad(), same_draws():
        return tensors_of(module(*args, **kwargs))


def macs(module: nn.Module, args: Any, kwargs: Any) -> int:
    frozen = smaller(module, {}).eval().requires_grad_(False)  # views of parameters confuse the counter's hooks
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # torch's layers as one operator, which the counter does not know
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            frozen(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() // 2


def backward(module: nn.Module, args: Any, kwargs: Any) -> None:
    with evaluating(module):
        loss = sum(t.float().square().mean() for t in tensors_of(module(*args, **kwargs)))
        assert isinstance(loss, Tensor)
        loss.backward()
    missing = [
        n
        for n, p in module.named_parameters()
        if p.requires_grad and p.grad is not None and not p.grad.isfinite().all()
    ]
    assert not missing, f"gradients that are not finite: {missing[:3]}"


def onnx_error(module: nn.Module, args: Any, kwargs: Any, expected: list[Tensor]) -> float:
    import numpy as np
    import onnx
    import onnxruntime as ort

    from sartor.export.onnx import to_onnx

    with tempfile.TemporaryDirectory() as folder, evaluating(module), torch.no_grad():
        file = Path(folder) / "model.onnx"
        onnx.save(to_onnx(smaller(module, {}), args, kwargs=kwargs), str(file))
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        flat = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), flat, strict=True)}
        found = [o for o in session.run(None, feeds) if np.issubdtype(o.dtype, np.floating)]
    return max(error(torch.from_numpy(f), e) for f, e in zip(found, expected, strict=True))


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, of the expected output's scale."""
    if found.shape != expected.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def exports(module: nn.Module, args: Any, kwargs: Any) -> bool:
    try:
        onnx_error(module, args, kwargs, outputs(module, args, kwargs))
    except Exception:  # whatever the exporter, or ONNX Runtime, cannot do
        return False
    return True


def most_kept(graph: Graph, sizes: dict[str, int]) -> str:
    """What keeps the most parameters."""
    kept: Counter[str] = Counter()
    for name, size in sizes.items():
        for why in graph.why_kept(name)[:1]:
            kept[why] += size
    return "; ".join(why for why, _ in kept.most_common(2))


def check(name: str, *, keep: float, seed: int, export: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "ok": False}
    torch.manual_seed(seed)
    opened = open_model(name)
    module = opened.module.eval()
    stir(module, seed)
    args, kwargs = arguments(opened.inputs)
    started = time.perf_counter()
    graph = trace(module, opened.inputs)
    row["trace_s"] = time.perf_counter() - started
    row["groups"] = len(graph.groups)
    row["frozen"] = [str(frozen) for frozen in graph.frozen]
    tied = {tie.tensor for group in graph.groups for tie in group.ties}
    sizes = {n: p.numel() for n, p in module.named_parameters()}
    row["prunable"] = sum(size for n, size in sizes.items() if n in tied) / max(1, sum(sizes.values()))
    cut = graph.random_cut(keep, seed)
    started = time.perf_counter()
    small = graph.slice(cut)
    row["slice_s"] = time.perf_counter() - started
    row["kind"] = "graph" if isinstance(small, torch.fx.GraphModule) else "classes"
    expected = outputs(graph.mask(cut), args, kwargs)
    found = outputs(small, args, kwargs)
    row["error"] = max(error(f, e) for f, e in zip(found, expected, strict=True))
    row["macs"], row["macs_cut"] = macs(module, args, kwargs), macs(small, args, kwargs)
    row["params"], row["params_cut"] = sum(sizes.values()), sum(p.numel() for p in small.parameters())
    backward(small, args, kwargs)
    if export:
        try:
            row["onnx_error"] = onnx_error(small, args, kwargs, found)
        except Exception:
            if exports(module, args, kwargs):
                raise
            row["unexportable"] = True
    if row["macs_cut"] >= row["macs"]:
        row["kept_by"] = most_kept(graph, sizes)
    row["ok"] = row["error"] <= TOLERANCE and row["macs_cut"] < row["macs"] and row.get("onnx_error", 0) <= 1e-3
    return row


def line(row: dict[str, Any]) -> str:
    if "why" in row:
        return f"{row['model']:46} FAILED  {row['why']}"
    return (
        f"{row['model']:46} {'ok' if row['ok'] else 'WRONG':6} {row['trace_s']:6.2f} s {row['slice_s']:6.2f} s "
        f"{row['groups']:5} groups {100 * row['prunable']:4.0f} % {row['kind']:8} error {row['error']:.1e} "
        f"MACs x{row['macs_cut'] / max(1, row['macs']):.2f} "
        + (f"onnx {row['onnx_error']:.0e} " if "onnx_error" in row else "")
        + ("no ONNX of the original either " if "unexportable" in row else "")
        + (f"frozen {len(row['frozen'])} " if row["frozen"] else "")
        + (f"kept by {row['kept_by']}" if "kept_by" in row else "")
    )


def listed(file: Path) -> list[str]:
    """The networks that a file names, one a line; lines with ``#`` are remarks."""
    return [name.strip() for name in file.read_text().splitlines() if name.strip() and not name.startswith("#")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("../shared/models.txt"))
    parser.add_argument("--names")
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-export", action="store_true")
    parser.add_argument("--traceback", action="store_true")
    options = parser.parse_args()
    logging.getLogger("sartor").setLevel(logging.ERROR)
    if options.names:
        names = options.names.split(",")
    elif options.models.is_file():
        names = listed(options.models)
    else:
        sys.exit(f"{options.models} is missing: give --models FILE or --names")
    rows = []
    for name in (n for n in names if options.only in n):
        try:
            row = check(name, keep=options.keep, seed=options.seed, export=not options.no_export)
        except Exception as failure:  # any network may fail in its own way: that is what is counted
            reason = str(failure).strip().splitlines() or [""]
            kind = "" if isinstance(failure, SartorError) else f"{type(failure).__name__}: "
            row = {"model": name, "ok": False, "why": kind + reason[0][:300]}
            if options.traceback:
                traceback.print_exc()
        rows.append(row)
        print(line(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(f"{sum(row['ok'] for row in rows)} of {len(rows)} networks: cut exactly, trained a step, exported")


if __name__ == "__main__":
    main()
