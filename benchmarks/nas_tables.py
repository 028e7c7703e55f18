"""Every strategy on real tables, beside Optuna and Syne Tune as they ship: evaluations to the best, and regret.

    python benchmarks/nas_tables.py --data ../shared/data --seeds 50 --json OUT
    python benchmarks/nas_tables.py --data ../shared/data --seeds 3 --tables macro:cifar10 --strategies bayes
    python benchmarks/nas_tables.py --data ../shared/data --devices all --seeds 5

A search is asked for one arch at a time (``--batch``), and counts unique evaluations. ``best seen``: those until it has
the arch that is best by what it may see, which on NAS-Bench-201 is the validation accuracy after 12 epochs; the median
over seeds, in how many, and the mean of those. ``near best test``: until the arch that it would choose is, and stays,
within 0.1 point of the best test accuracy after 200 epochs. ``regret``: what its choice lacks of that, after 100, 200
and all evaluations, in points. With ``--devices``, accuracy against each device's latency: the share of the table's
hypervolume after 100 and 200 evaluations.

A search ends when it has the best that it may see: what it chooses is settled then. Each run is a line of ``--json`` as
soon as it is there: a benchmark that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shipped import SYNE_TUNE, optuna_shipped, syne_tune_shipped

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.contest import contest
from sartor.search.named import MULTI_FIDELITY, strategies
from sartor.search.tables import Table, open_known

TABLES = ("nb201:cifar10", "nb201:cifar100", "macro:cifar10")
SLOW = {
    "l2nas": (200, 20),
    "optuna-gp": (100, 20),
    "neural-predictor": (150, 5),
    "Syne Tune BORE": (200, 20),
    "Syne Tune CQR": (150, 20),
}
"""Evaluations after which a strategy is stopped, and the most seeds that it gets: a proposal of it takes from a tenth
of a second to several."""

Run = Callable[[Table, int, int], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder that holds nas/")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument(
        "--strategies", help="all by default; `optuna` and `syne-tune` (or `syne-tune:BORE`) are those as they ship"
    )
    parser.add_argument("--devices", help="latencies to search against, beside accuracy: `all`, or columns")
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--syne-tune", type=Path, help="folder that holds Syne Tune")
    parser.add_argument("--json", type=Path, help="file of one line a run, which is gone on from")
    a = parser.parse_args()
    if a.devices:
        by_device(a)
        return
    names = a.strategies.split(",") if a.strategies else [*plain_strategies(), "optuna", "syne-tune"]
    runs = dict(contestants(names, a.batch, a.syne_tune))
    done = kept(a.json)
    for name in a.tables.split(","):
        table = open_known(name, a.data)
        print(f"\n{name}: {len(table.rows):,} archs, {a.budget} evaluations, {a.seeds} seeds", flush=True)
        heads = f"{'best seen':>22} {'near best test':>22} {'regret 100/200/all':>22} {'ms':>7}"
        print(f"{'strategy':28} {heads}", flush=True)
        for strategy, run in runs.items():
            budget, seeds = map(min, SLOW.get(strategy, (a.budget, a.seeds)), (a.budget, a.seeds))
            found = []
            for seed in range(seeds):
                key = f"{name} {strategy} {budget} {a.batch} {seed}"
                if key not in done:
                    try:
                        done[key] = judged(table, run, budget, seed)
                    except InputError as refused:  # some take numbers only
                        print(f"{strategy:28} not on this table: {refused}", flush=True)
                        break
                    keep(a.json, key, done[key])
                found.append(done[key])
            else:
                print(line(strategy, found) + (f"   (of {budget})" if budget < a.budget else ""), flush=True)


def plain_strategies() -> list[str]:
    """All but those that need several fidelities."""
    return [name for name, strategy in strategies.items() if strategy not in MULTI_FIDELITY]


def contestants(names: list[str], batch: int, folder: Path | None) -> Iterator[tuple[str, Run]]:
    for name in names:
        if name == "optuna":
            import optuna

            yield "Optuna TPE", partial(_of, optuna_shipped)
            yield "Optuna NSGA-II", partial(_of, partial(optuna_shipped, sampler=optuna.samplers.NSGAIISampler))
        elif name.startswith("syne-tune"):
            _, _, one = name.partition(":")
            for baseline in ([one] if one else SYNE_TUNE) if folder else ():
                yield f"Syne Tune {baseline}", partial(_of, partial(syne_tune_shipped, name=baseline, folder=folder))
        else:
            yield name, partial(_ours, name, batch)


def _of(search: Run, table: Table, budget: int, seed: int) -> dict[str, Any]:
    return search(table, budget, seed)


def _ours(name: str, batch: int, table: Table, budget: int, seed: int) -> dict[str, Any]:
    return next(iter(contest(table, [name], budget, 1, batch=batch, first_seed=seed)))


class Found(Exception):
    """The best that may be seen has been seen: nothing that a search finds from then on changes what it chooses."""


class Watched:
    """A table that ends a search which has the best there is to see, and knows what was evaluated."""

    def __init__(self, table: Table):
        self._table, self._first = table, table.objectives[0]
        self._best = min(self._first.cost(row[self._first.metric]) for row in table.rows.values())
        self.history: list[Record] = []
        self.found = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def evaluate(self, arch: Arch) -> dict[str, float]:
        metrics = self._table.evaluate(arch)
        self.history.append(Record(f"a{len(self.history)}", arch, metrics=metrics))
        self.found = self._first.cost(metrics[self._first.metric]) == self._best
        if self.found:
            raise Found
        return metrics


def judged(table: Table, run: Run, budget: int, seed: int) -> dict[str, Any]:
    """What is kept of a run: ``seen``, evaluations to the best by what may be seen, ``near``, ``regret``, ``ms``."""
    watched, start = Watched(table), time.perf_counter()
    with contextlib.suppress(Found):
        run(watched, budget, seed)  # type: ignore[arg-type]
    seconds, n = time.perf_counter() - start, len(watched.history)
    sign = 1 if table.verdict.maximise else -1
    away = [sign * (table.best - value) for value in table.best_so_far(watched.history)]
    far = [i for i, d in enumerate(away) if d > table.near + 1e-9]
    near = None if far and far[-1] == n - 1 else (far[-1] + 2 if far else 1)
    places = [min(place, n) - 1 for place in (100, 200, budget)]
    regret = [away[place] for place in places]
    return {"seen": n if watched.found else None, "near": near, "regret": regret, "ms": 1000 * seconds / max(1, n)}


def line(strategy: str, runs: list[dict[str, Any]]) -> str:
    regret = "/".join(f"{np.mean([run['regret'][i] for run in runs]):.2f}" for i in range(3))
    ms = statistics.median(run["ms"] for run in runs)
    seen, near = (_needed([run[key] for run in runs]) for key in ("seen", "near"))
    return f"{strategy:28} {seen:>22} {near:>22} {regret:>22} {ms:7.1f}"


def _needed(counts: list[int | None]) -> str:
    """The upper median, in how many of the seeds, and the mean of those."""
    there = [n for n in counts if n is not None]
    middle = sorted(math.inf if n is None else n for n in counts)[len(counts) // 2]
    mean = f"{statistics.mean(there):.0f}" if there else "-"
    return f"{middle if math.isfinite(middle) else 'never'} ({len(there)}/{len(counts)}, {mean})"


def by_device(a: argparse.Namespace) -> None:
    names = a.strategies.split(",") if a.strategies else ["bayes", "linas", "nsga2", "random"]
    for name in a.tables.split(","):
        devices = latencies(name, a.data) if a.devices == "all" else a.devices.split(",")
        print(f"\n{name}: share of the hypervolume after 100 and 200 evaluations, mean of {a.seeds} seeds")
        for device in devices:
            table = open_known(name, a.data, device)
            found: dict[str, list[list[float]]] = {}
            for entry in contest(table, names, 200, a.seeds, batch=a.batch):
                found.setdefault(entry["strategy"], []).append([entry["hypervolume"][i] for i in (99, 199)])
            shares = (
                f"{s} {100 * np.mean([v[0] for v in x]):.1f} {100 * np.mean([v[1] for v in x]):.1f}"
                for s, x in found.items()
            )
            print(f"{device:28} " + "   ".join(shares), flush=True)


def latencies(name: str, data: str) -> list[str]:
    """The table's columns of latency, which it names where it is asked for one that it has not."""
    try:
        open_known(name, data, "?")
    except InputError as error:
        return [c for c in str(error).split("choose from ")[-1].split(", ") if c.startswith("lat_")]
    raise AssertionError("a table has no column '?'")


def kept(file: Path | None) -> dict[str, dict[str, Any]]:
    if file is None or not file.exists():
        return {}
    return dict(json.loads(text) for text in file.read_text().splitlines())


def keep(file: Path | None, key: str, run: dict[str, Any]) -> None:
    if file is not None:
        with file.open("a") as held:
            held.write(json.dumps([key, run]) + "\n")


if __name__ == "__main__":
    main()
