"""Are cutting, growing and exporting exact on networks nobody wrote? A longer run of the suite's random networks.

    python benchmarks/random_networks.py [--first 10000] [--n 2000] [--export-every 10]

Prints every seed with a defect, how many networks, groups and operators there were, how many groups could be widened,
and the largest errors, of the output's scale.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from sartor.errors import InputError
from sartor.graph import Graph, trace
from sartor.graph.generate import random_network
from sartor.graph.grow import widen


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max() / max(1.0, float(expected.abs().max())))


def cut_error(graph: Graph, x: tuple[torch.Tensor, ...], seed: int) -> float:
    cut = graph.random_cut(0.5, seed)
    with torch.no_grad():
        return error(graph.slice(cut).eval()(*x), graph.mask(cut)(*x))


def grown(graph: Graph, x: tuple[torch.Tensor, ...], seed: int) -> list[float]:
    """Errors of widening each group that can be, by half."""
    errors = []
    for group in graph.groups:
        try:
            wide = widen(graph, {group.name: group.size + max(1, group.size // 2)}, seed=seed)
        except InputError:
            continue
        with torch.no_grad():
            errors.append(error(wide.eval()(*x), graph.model(*x)))
    return errors


def exported(graph: Graph, x: tuple[torch.Tensor, ...], seed: int) -> float:
    """The cut network's file against the cut network."""
    import onnx
    import onnxruntime as ort

    from sartor.export.onnx import to_onnx

    small = graph.slice(graph.random_cut(0.5, seed)).eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "model.onnx"
        onnx.save(to_onnx(small, x), str(file))
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), x, strict=True)}
        return error(torch.from_numpy(session.run(None, feeds)[0]), small(*x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--export-every", type=int, default=10)
    options = parser.parse_args()
    logging.getLogger("sartor").setLevel(logging.ERROR)
    worst = dict.fromkeys(("cut", "widened", "exported"), 0.0)
    counted: Counter[str] = Counter()
    operators: set[str] = set()
    defects = 0
    for seed in range(options.first, options.first + options.n):
        net, x = random_network(seed)
        net.eval()
        graph = trace(net, x)
        operators |= {call.op for call in graph.calls}
        errors = {"cut": [cut_error(graph, x, seed)], "widened": grown(graph, x, seed)}
        if seed % options.export_every == 0:
            errors["exported"] = [exported(graph, x, seed)]
        for name, values in errors.items():
            counted[name] += len(values)
            worst[name] = max([worst[name], *values])
        counted["groups"] += len(graph.groups)
        if graph.frozen or any(value > 1e-4 for values in errors.values() for value in values):
            defects += 1
            print(f"seed {seed}: {errors} {[str(frozen) for frozen in graph.frozen]}", flush=True)
    print(f"{options.n} networks of {len(operators)} operators, {counted['groups']} groups, {defects} with a defect")
    for name, value in worst.items():
        print(f"{name}: {counted[name]}, largest error {value:.1e}")
    sys.exit(defects > 0)


if __name__ == "__main__":
    main()
