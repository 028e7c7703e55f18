"""How many evaluations a second can be stored, and what of that is the disk.

    python benchmarks/store.py                                     # files in a folder of /tmp, and in memory
    python benchmarks/store.py --folder . --postgres postgresql+psycopg://user@host/db
    python benchmarks/store.py --json store.json

Every record is durable before the next is taken: one transaction, one `fsync`. So the table begins with how many of
those the disk does. Then, in evaluations of ten choices each: `append` to a file, to a file on a memory file system
(what is left when the disk costs nothing), and to a PostgreSQL database where one is given; a worker's whole way
(claim, evaluate, finish) on each; and Optuna's own `add_trial`, which is what `append` replaced. An evaluation itself
costs nothing here. The database given is left with two studies of this benchmark's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna

from sartor.records import Arch, Record
from sartor.search.loop import search
from sartor.search.methods.random import random_search
from sartor.search.store import Store
from sartor.search.workers import work
from sartor.space.choice import Choice
from sartor.space.space import Space

SPACE = Space(tuple(Choice(f"layer{i}", (0, 1, 2, 3)) for i in range(10)))
MEMORY = Path("/dev/shm")
WARM = 20
"""Evaluations before the clock starts: the first ones compile statements and make the file grow."""


def evaluate(arch: Arch) -> dict[str, float]:
    size = sum(float(option) for option in arch.values())
    return {"accuracy_val": size / (20 + size), "latency_ms": 0.1 + size}


def fsyncs(folder: Path, n: int = 200) -> float:
    """A second: of 12 kB each, about a transaction's, over what is there already."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
        start = time.perf_counter()
        for place in range(n):
            os.pwrite(file.fileno(), bytes(12 << 10), place % 64 << 14)
            os.fsync(file.fileno())
        return n / (time.perf_counter() - start)


def appends(place: Path | str, records: list[Record]) -> float:
    """Records a second."""
    with Store(place, name=uuid.uuid4().hex, choices=SPACE.choices) as store:
        return _a_second(records, store.append)


def worked(place: Path | str, n: int) -> float:
    """Evaluations a second of one worker, with the time that random search takes."""
    done: list[float] = []
    with Store(place, name=uuid.uuid4().hex, choices=SPACE.choices) as store:
        work(
            SPACE,
            evaluate,
            random_search,
            store,
            evaluations=n,
            seed=0,
            on_record=lambda _: done.append(time.perf_counter()),
        )
    return (n - WARM) / (done[-1] - done[WARM - 1])


def by_optuna(path: Path, records: list[Record]) -> float:
    """Records a second by Optuna's own ``add_trial``, on a file with the same settings."""
    with Store(path, name="settings"):
        pass  # the write-ahead log is a property of the file; Optuna's default is to sync it
    study = optuna.create_study(storage=f"sqlite:///{path}", directions=["maximize", "minimize"])
    kinds = {c.name: optuna.distributions.CategoricalDistribution(c.options) for c in SPACE.choices}

    def add(record: Record) -> None:
        study.add_trial(
            optuna.trial.create_trial(
                values=list(record.metrics.values()),
                params=dict(record.arch),
                distributions=kinds,
                user_attrs={"sartor.record": record.to_dict()},
            )
        )

    return _a_second(records, add)


def _a_second(records: list[Record], add: Callable[[Record], Any]) -> float:
    for record in records[:WARM]:
        add(record)
    start = time.perf_counter()
    for record in records[WARM:]:
        add(record)
    return (len(records) - WARM) / (time.perf_counter() - start)


def measured(folder: Path, n: int, postgres: str | None) -> Iterator[tuple[str, float]]:
    records = search(SPACE, evaluate, random_search, evaluations=n, seed=0)
    places = {"file": folder, **({"memory": MEMORY} if MEMORY.is_dir() else {})}
    yield "fsync, this disk", fsyncs(folder)
    for name, place in places.items():
        scratch = Path(tempfile.mkdtemp(dir=place))
        try:
            yield f"append, {name}", appends(scratch / "append.db", records)
            yield f"worker, {name}", worked(scratch / "worker.db", n)
            yield f"Optuna's add_trial, {name}", by_optuna(scratch / "optuna.db", records[: max(2 * WARM, n // 5)])
        finally:
            shutil.rmtree(scratch)
    if postgres:
        yield "append, PostgreSQL", appends(postgres, records)
        yield "worker, PostgreSQL", worked(postgres, n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("--postgres", metavar="URL", help="a database that may be written to")
    parser.add_argument("--evaluations", type=int, default=600)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    chosen = parser.parse_args()
    if chosen.evaluations <= 2 * WARM:
        parser.error(f"--evaluations must be more than {2 * WARM}")
    found = {}
    for name, rate in measured(chosen.folder, chosen.evaluations, chosen.postgres):
        found[name] = rate
        print(f"{name:28} {rate:9.0f} a second", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
