"""How well proxies rank NAS-Bench-201's networks, beside what was published of the same proxies on the same archs.

    python benchmarks/zero_cost.py                         # 200 archs, every proxy
    python benchmarks/zero_cost.py --archs 40 --proxies synflow,naswot --json out.json

For a seeded sample of the archs that the published table has: Spearman's rank correlation of each proxy with the
accuracy on CIFAR-10 after 12 epochs (validation) and after 200 (test), of the published values of that proxy with the
same two, and of both with each other. One batch of 32 images, drawn from the real training images; weights as PyTorch
draws them. A score that is NaN counts as the worst.

The table (``zero_cost_2022.csv.gz``) holds what NAS-Bench-Suite-Zero's authors measured (arXiv:2210.03230): other
draws of the weights, another batch. ``--seeds N`` prints what that alone is worth: the mean correlation over N draws of
both, and its standard deviation from draw to draw.

Data are found through $SARTOR_DATA, else ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from sartor.data import open_data
from sartor.data.batches import shuffled
from sartor.models.buildable import nb201_problem
from sartor.records import Arch
from sartor.search.proxies import proxies, proxy_evaluator, rank_sum
from sartor.search.tables.rows import read_rows
from sartor.space.cell import nas_bench_201
from sartor.space.strings import parse_nb201

PUBLISHED = {
    "synflow": "synflow",
    "snip": "snip",
    "grasp": "grasp",
    "fisher": "fisher",
    "jacob_cov": "jacov",
    "naswot": "nwot",
    "epe_nas": "epe_nas",
    "plain": "plain",
    "grad_norm": "grad_norm",
    "l2_norm": "l2_norm",
    "params": "params",
    "macs": "flops",
}
"""A proxy and its column."""
OPERATORS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""In the order of the table's numbers, NASLib's."""
EDGES = (0, 1, 3, 2, 4, 5)
"""Where the table, which goes from node to node, has the edges that the strings list to node by node."""
TRUTH = ("acc12ep_cifar10_val", "acc200ep_cifar10_test")
SUM = ("synflow", "naswot", "params")
"""Whose ranks are added up."""


def data_dir() -> Path:
    return Path(os.environ.get("SARTOR_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def archs_of(data: Path, n: int, seed: int) -> list[tuple[Arch, dict[str, float], dict[str, float]]]:
    """Archs that both tables have, their accuracies and the published scores."""
    accuracies = {}
    for row in read_rows(data / "nas" / "nb201.csv.gz", "give --data"):
        accuracies[parse_nb201(row["arch_str"])] = {name: float(row[name]) for name in TRUTH}
    found = {}
    for row in read_rows(data / "nas" / "zero_cost_2022.csv.gz", "give --data"):
        if (row["space"], row["task"]) == ("nasbench201", "cifar10"):
            code = ast.literal_eval(row["arch"])
            arch = nas_bench_201().canonical({f"edge{i}": OPERATORS[code[at]] for i, at in enumerate(EDGES)})
            scores = {ours: _number(row[theirs]) for ours, theirs in PUBLISHED.items()}
            found[arch] = (arch, accuracies[arch], scores)
    return random.Random(seed).sample(list(found.values()), min(n, len(found)))


def images_of(data: Path, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Normalised batches of CIFAR-10's training images, one a seed."""
    opened = open_data(data / "cifar10")
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (opened.mean, opened.std))
    for pixels, labels in shuffled(opened.train, size, seed=0):
        yield (pixels.float() / 255 - mean) / deviation, labels


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; what is NaN is the lowest."""
    from scipy.stats import spearmanr

    x, y = (np.nan_to_num(np.array(v, dtype=np.float64), nan=-math.inf, neginf=-math.inf) for v in (a, b))
    ranks = [np.unique(v, return_inverse=True)[1] for v in (x, y)]
    return float(spearmanr(*ranks).statistic) if min(map(np.ptp, ranks)) > 0 else math.nan


def line(name: str, ours: Mapping[str, list[float]], theirs: Sequence[float], truth: Mapping[str, list[float]]) -> dict:
    """One row: correlations of our scores (mean over draws) and of the published."""
    draws = {t: [spearman(column, truth[t]) for column in ours[name]] for t in TRUTH}
    row: dict = {"proxy": name}
    for t in TRUTH:
        row[t] = float(np.mean(draws[t]))
        row[f"{t}_deviation"] = float(np.std(draws[t], ddof=1)) if len(draws[t]) > 1 else None
        row[f"{t}_published"] = spearman(theirs, truth[t]) if len(theirs) else None
    row["with_published"] = float(np.mean([spearman(c, theirs) for c in ours[name]])) if len(theirs) else None
    return row


def show(row: dict) -> None:
    keys = [f"{t}{end}" for t in TRUTH for end in ("", "_published", "_deviation")]
    cells = [row[key] for key in (*keys, "with_published", "seconds")]
    print(
        f"{row['proxy']:<24}{''.join(f'{c:>11.3f}' if c is not None else f'{chr(8211):>11}' for c in cells)}",
        flush=True,
    )


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0, help="of the sample of archs, and the first draw's")
    parser.add_argument("--seeds", type=int, default=1, help="draws of weights and batch")
    parser.add_argument("--proxies", default=",".join(name for name in proxies if name != "hidden_covariance"))
    parser.add_argument("--data", type=Path, default=data_dir())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.proxies.split(",")
    sample = archs_of(options.data, options.archs, options.seed)
    truth = {t: [accuracy[t] for _, accuracy, _ in sample] for t in TRUTH}
    published = {name: [scores[name] for _, _, scores in sample] for name in PUBLISHED}
    print(f"Spearman with accuracy: {len(sample)} archs of NAS-Bench-201, {options.seeds} draws, batch {options.batch}")
    titles = ("12 epochs", "published", "deviation", "200 epochs", "published", "deviation", "both", "s an arch")
    print(f"{'proxy':<24}{''.join(f'{title:>11}' for title in titles)}")
    problem = nb201_problem()
    batches = images_of(options.data, options.batch)
    drawn = [next(batches) for _ in range(options.seeds)]
    ours: dict[str, list[list[float]]] = {}
    rows = []
    for name in names:
        started = time.perf_counter()
        columns = []
        for seed, batch in enumerate(drawn):
            evaluate = proxy_evaluator(problem, [name], batch, seed=options.seed + seed)
            columns.append([evaluate(arch)[name] for arch, _, _ in sample])
        ours[name] = columns
        seconds = (time.perf_counter() - started) / (len(sample) * len(drawn))
        rows.append({**line(name, ours, published.get(name, []), truth), "seconds": seconds})
        show(rows[-1])
    if set(SUM) <= set(names):
        label = "+".join(SUM)
        scores = [[dict(zip(SUM, values, strict=True)) for values in zip(*(ours[n][d] for n in SUM), strict=True)]
                  for d in range(len(drawn))]  # fmt: skip
        ours[label] = [rank_sum(one, SUM).tolist() for one in scores]
        theirs = [dict(zip(SUM, values, strict=True)) for values in zip(*(published[n] for n in SUM), strict=True)]
        rows.append({**line(label, ours, rank_sum(theirs, SUM).tolist(), truth), "seconds": None})
        show(rows[-1])
    if options.json is not None:
        held = {
            "archs": len(sample),
            "batch": options.batch,
            "seed": options.seed,
            "seeds": options.seeds,
            "rows": rows,
        }
        options.json.write_text(json.dumps(held, indent=1) + "\n")


def _number(text: str) -> float:
    return float(text) if text else math.nan


if __name__ == "__main__":
    main()
