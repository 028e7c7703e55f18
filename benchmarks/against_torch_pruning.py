"""Sartor beside Torch-Pruning on the same networks: what each can cut, how much of it, how fast, and is it right?

    pip install torch-pruning
    python benchmarks/against_torch_pruning.py [--models ../shared/models.txt] [--json OUT] [--repeats 3] [--limit 120]

No code for any model, for either. Torch-Pruning gets what its own timm example gives: the classifier is left alone, and
it knows the heads of modules with ``qkv`` and ``num_heads``. Half of every group goes, at random. For each network and
tool, in a process of its own that is stopped after ``--limit`` seconds: does the cut network run with fewer
multiply-accumulates; the share of parameters that a cut can reach; seconds to the groups and seconds to cut, medians
over repeats, the two in turns; and the largest error of the output's scale. Sartor's is against its masked original.
Torch-Pruning has no such reference: its cut network is held against the original whose cut channels are set to zero
where they are made, and to nothing where a layer norm reads them, which that cannot tell.

Sartor's cut leaves the original as it was, and has run the cut network against a reference before it returns it;
Torch-Pruning's changes the original. What Torch-Pruning takes with a copy first and two passes of the cut network
after, its own and a reference's, is the column "proved". With ``--json``, a benchmark that was killed goes on where it
was.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from coverage import error, listed, macs, outputs, stir
from torch import Tensor, nn

from sartor.graph import trace
from sartor.graph.capture import arguments
from sartor.models.zoo import open_model


def with_sartor(module: nn.Module, inputs: Any) -> dict[str, Any]:
    begin = time.perf_counter()
    graph = trace(module, inputs)
    traced = time.perf_counter()
    cut = graph.random_cut(0.5)
    small = graph.slice(cut)
    done = time.perf_counter()
    args, kwargs = arguments(inputs)
    found, expected = outputs(small, args, kwargs), outputs(graph.mask(cut), args, kwargs)
    tied = {tie.tensor for group in graph.groups for tie in group.ties}
    return {
        "groups_s": traced - begin,
        "cut_s": done - traced,
        "proved_s": done - traced,
        "macs": macs(small, args, kwargs) / macs(module, args, kwargs),
        "reach": _share(module, tied),
        "error": max(error(f, e) for f, e in zip(found, expected, strict=True)),
    }


def with_torch_pruning(module: nn.Module, inputs: Any) -> dict[str, Any]:
    import torch_pruning as tp

    args, kwargs = arguments(inputs)
    if kwargs or len(args) != 1:
        raise NotImplementedError("arguments by name")
    begin = time.perf_counter()
    module = copy.deepcopy(module)
    copying = time.perf_counter() - begin
    original = copy.deepcopy(module)
    classes = outputs(module, args, kwargs)[0].shape[1]
    linears = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    last = [m for m in linears if getattr(m, "out_features", getattr(m, "out_channels", 0)) == classes][-1:]
    heads = {m.qkv: m.num_heads for m in module.modules() if hasattr(m, "qkv") and hasattr(m, "num_heads")}
    begin = time.perf_counter()
    tp.DependencyGraph().build_dependency(module, args[0])
    built = time.perf_counter()
    pruner = tp.pruner.BasePruner(
        module,
        args[0],
        importance=tp.importance.RandomImportance(),
        pruning_ratio=0.5,
        ignored_layers=last,
        num_heads=heads,
        prune_num_heads=True,
        head_pruning_ratio=0.5,
    )
    before = {name: tuple(p.shape) for name, p in module.named_parameters()}
    names = {m: name for name, m in module.named_modules()}
    gone: dict[str, list[int]] = {}
    left: dict[str, list[int]] = {}
    exact = True
    steps = pruner.step(interactive=True)
    seconds = 0.0
    while True:
        start = time.perf_counter()
        group = next(steps, None)
        seconds += time.perf_counter() - start
        if group is None:
            break
        for dep, indices in group:
            target, out = dep.target.module, dep.handler
            if isinstance(target, nn.LayerNorm):
                exact = False
            if target in names and out.__name__ in ("prune_out_channels", "prune_groups") and hasattr(target, "weight"):
                name = names[target]  # cut more than once, its later indices count what is left
                there = left.setdefault(name, list(range(len(target.weight))))
                now = {there[int(i)] for i in indices}
                gone.setdefault(name, []).extend(now)
                left[name] = [i for i in there if i not in now]
        start = time.perf_counter()
        group.prune()
        seconds += time.perf_counter() - start
    for m in module.modules():  # as their example puts heads right, by hand
        if hasattr(m, "qkv") and hasattr(m, "num_heads") and m.qkv in pruner.num_heads:
            m.num_heads = pruner.num_heads[m.qkv]
            m.head_dim = m.qkv.out_features // (3 * m.num_heads)
            m.attn_dim = m.num_heads * m.head_dim
    outputs(module, args, kwargs)
    start = time.perf_counter()
    found = outputs(module, args, kwargs)
    passing = time.perf_counter() - start
    reach = {name for name, p in module.named_parameters() if tuple(p.shape) != before[name]}
    row: dict[str, Any] = {
        "groups_s": built - begin,
        "cut_s": seconds,
        "proved_s": copying + seconds + 2 * passing,
        "macs": macs(module, args, kwargs) / macs(original, args, kwargs),
        "reach": _share(original, reach),
        "error": None,
    }
    if exact:
        with torch.no_grad():
            for name, indices in gone.items():
                layer: Any = original.get_submodule(name)
                for tensor in (layer.weight, layer.bias):
                    if isinstance(tensor, Tensor):
                        tensor[indices] = 0
        row["error"] = max(error(f, e) for f, e in zip(found, outputs(original, args, kwargs), strict=True))
    return row


def _share(module: nn.Module, names: set[str]) -> float:
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    return sum(size for name, size in sizes.items() if name in names) / max(1, sum(sizes.values()))


TOOLS = {"sartor": with_sartor, "torch-pruning": with_torch_pruning}
SECONDS = ("groups_s", "cut_s", "proved_s")


def one(name: str, repeats: int) -> None:
    """Both tools on one network, in turns; a line of JSON for each that got through."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    opened = open_model(name)
    stir(opened.module.eval())
    rows: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
    failed: dict[str, str] = {}
    for _ in range(repeats):
        for tool, run in TOOLS.items():
            if tool in failed:
                continue
            try:
                rows[tool].append(run(opened.module, opened.inputs))
            except Exception as failure:
                failed[tool] = f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"[:160]
                traceback.print_exc()
                print(json.dumps({"tool": tool, "why": failed[tool]}), flush=True)
                continue
            kept = rows[tool]
            times = {key: statistics.median(row[key] for row in kept) for key in SECONDS}
            print(json.dumps({"tool": tool, **kept[-1], **times}), flush=True)


def compare(name: str, repeats: int, limit: float) -> dict[str, dict[str, Any]]:
    command = [sys.executable, __file__, "--one", name, "--repeats", str(repeats)]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=limit).stdout
        why = "crashed"
    except subprocess.TimeoutExpired as stopped:
        out, why = (stopped.stdout or b"").decode(), f"more than {limit:.0f} s"
    found: dict[str, dict[str, Any]] = {tool: {"why": why} for tool in TOOLS}
    for line in out.splitlines():
        if line.startswith('{"tool"'):
            row = json.loads(line)
            found[row.pop("tool")] = row
    return found


def handled(row: dict[str, Any]) -> bool:
    return "why" not in row and row["macs"] < 0.999 and (row["error"] is None or row["error"] <= 1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("../shared/models.txt"))
    parser.add_argument("--names")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--one")
    options = parser.parse_args()
    if options.one:
        one(options.one, options.repeats)
        return
    names = options.names.split(",") if options.names else listed(options.models)
    done = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    rows = {name: done[name] for name in names if name in done}
    print(f"{'network':44} {'tool':14} {'groups s':>8} {'cut s':>7} {'proved':>7} {'MACs':>5} {'reach':>6}  error")
    for name in names:
        if name not in rows:
            rows[name] = compare(name, options.repeats, options.limit)
        for tool, row in rows[name].items():
            if "why" in row:
                said = row["why"]
            else:
                exact = "–" if row["error"] is None else f"{row['error']:.0e}"
                seconds = f"{row['groups_s']:8.2f} {row['cut_s']:7.2f} {row['proved_s']:7.2f}"
                said = f"{seconds} {row['macs']:5.2f} {row['reach']:6.0%}  {exact}"
            print(f"{name:44} {tool:14} {said}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    for tool in TOOLS:
        print(f"{tool}: {sum(handled(row[tool]) for row in rows.values())} of {len(rows)} handled")
    both = [row for row in rows.values() if all(handled(row[tool]) for tool in TOOLS)]
    if both:
        for key in SECONDS:
            ratios = [row["sartor"][key] / row["torch-pruning"][key] for row in both]
            less = sum(ratio <= 1 for ratio in ratios)
            print(f"{key} of Sartor over Torch-Pruning's: median {statistics.median(ratios):.2f}, ", end="")
            print(f"at most 1 on {less} of the {len(both)} that both handle")
        only = [name for name, row in rows.items() if handled(row["torch-pruning"]) and not handled(row["sartor"])]
        print(f"handled by Torch-Pruning alone: {', '.join(only) or 'none'}")


if __name__ == "__main__":
    main()
