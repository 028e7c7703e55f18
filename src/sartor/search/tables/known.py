"""Published tables of really trained networks, by name. The files are not ours to ship: a folder holds them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from sartor.errors import InputError
from sartor.search.objective import Objective
from sartor.search.tables.rows import read_rows
from sartor.search.tables.table import Table, table_of
from sartor.space import Choice, Space, cell, macro
from sartor.space.fidelity import FIDELITY, with_fidelities
from sartor.space.macro import numbered
from sartor.space.ofa import ofa_space

NEAR = 0.1
"""Points of accuracy from the best there is: good enough."""

GRAPH_LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
GRAPH_OPERATORS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
"""In the order of NAS-Bench-Graph's own numbers (arXiv:2206.09166 §3)."""


def open_known(name: str, data: str | Path | None = None, cost: str | None = None) -> Table:
    """The table ``name``, such as ``nb201:cifar10``, from the folder ``data`` ($SARTOR_DATA where it is not given).

    ``cost``: a column to minimise, too, such as ``lat_ms_pixel2``. Raises InputError where name, folder or column are
    unknown.
    """
    kind, _, part = name.partition(":")
    if kind not in KNOWN:
        raise InputError(f"unknown table {name!r}: choose from {', '.join(NAMES)}, or give a .csv file")
    folder = data_folder(data)
    try:
        return KNOWN[kind](folder, part, cost)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{folder} holds no published table {name} ({error!r}): give --data the original files"
        ) from error


def data_folder(data: str | Path | None) -> Path:
    """The folder that holds ``nas/``. Raises InputError where it is not known or not there."""
    given = data or os.environ.get("SARTOR_DATA")
    if not given:
        raise InputError("where are the tables? Set SARTOR_DATA to the folder that holds nas/, or give --data")
    folder = Path(given) / "nas" if (Path(given) / "nas").is_dir() else Path(given)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the one that holds nas/")
    return folder


def nas_bench_201(folder: Path, part: str, cost: str | None) -> Table:
    """NAS-Bench-201 (arXiv:2001.00326): 15,625 cells. A search sees the validation accuracy after 12 epochs; the test
    accuracy after 200 is the verdict.

    ``:epochs``: 12 and 200 epochs are fidelities. The table has no validation accuracy after 200, so what a search sees
    there is the verdict itself: it shows who spends epochs well, and nothing of how a validated choice generalises.
    """
    part = _one_of("nb201", part, ("cifar10", "cifar100", "cifar10:epochs", "cifar100:epochs"))
    images, _, epochs = part.partition(":")
    rows: list[tuple[dict[str, object], dict[str, str]]] = []
    seen, verdict = f"acc12ep_{images}_val", f"acc200ep_{images}_test"
    whole: Space = cell.nas_bench_201()
    for row in _read(folder / "nb201.csv.gz"):
        edges = numbered("edge", re.findall(r"([a-z_0-9]+)~", row["arch_str"]))
        if epochs:
            rows += [(edges | {FIDELITY: n}, row | {"accuracy": row[a]}) for n, a in ((12, seen), (200, verdict))]
        else:
            rows.append((edges, row))
    if epochs:
        whole, seen = with_fidelities(whole, {12: 12, 200: 200}), "accuracy"
    return _table(f"nb201:{part}", whole, rows, seen, verdict, cost)


def nas_bench_macro(folder: Path, part: str, cost: str | None) -> Table:
    """NAS-Bench-Macro (arXiv:2103.11922): 6,561 networks of eight layers on CIFAR-10, the mean of three seeds."""
    _one_of("macro", part, ("cifar10",))
    rows = [
        (numbered("layer", [int(digit) for digit in row["arch"]]), row)
        for row in _read(folder / "nasbench_macro_cifar10.csv.gz")
    ]
    return _table("macro:cifar10", macro.nas_bench_macro(), rows, "mean_acc", None, cost)


def ofa(folder: Path, part: str, cost: str | None) -> Table:
    """Subnets of OFA-MobileNetV3 (arXiv:1908.09791) that searches evaluated on ImageNet."""
    _one_of("ofa", part, ("imagenet",))
    rows = [(ofa_options(row), row) for row in _read(folder / "ofa_mbv3_accuracy.csv.gz")]
    sides = sorted({int(row["r"]) for _, row in rows})
    return _table("ofa:imagenet", ofa_space(resolutions=sides), rows, "top1", None, cost)


def ofa_options(row: Mapping[str, str]) -> dict[str, object]:
    """The options of a subnet as OFA's own lists have them: of all twenty blocks, the inactive ones too."""
    kernels, expansions, depths = ([int(x) for x in row[name].split()] for name in ("ks", "e", "d"))
    options = numbered("depth", depths) | numbered("kernel", kernels) | numbered("expand", expansions)
    return options | {"resolution": int(row["r"])}


def nas_bench_graph(folder: Path, part: str, cost: str | None) -> Table:
    """NAS-Bench-Graph (arXiv:2206.09166): 26,206 graph networks on Cora."""
    _one_of("graph", part, ("cora",))
    rows = []
    for row in _read(folder / "nasbench_graph_cora.csv.gz"):
        link, *operators = (int(digit) for digit in row["arch_hash"].zfill(5))
        named = [GRAPH_OPERATORS[operator] for operator in operators]
        rows.append(({"link": GRAPH_LINKS[link], **numbered("op", named)}, row))
    choices = [Choice("link", GRAPH_LINKS), *(Choice(f"op{i}", GRAPH_OPERATORS) for i in range(4))]
    return _table(
        "graph:cora", Space(tuple(choices)), rows, "valid_perf", "perf", cost, near=NEAR / 100
    )  # shares, not per cent


KNOWN: dict[str, Callable[[Path, str, str | None], Table]] = {
    "nb201": nas_bench_201,
    "macro": nas_bench_macro,
    "ofa": ofa,
    "graph": nas_bench_graph,
}
NAMES = (
    "nb201:cifar10",
    "nb201:cifar100",
    "nb201:cifar10:epochs",
    "nb201:cifar100:epochs",
    "macro:cifar10",
    "ofa:imagenet",
    "graph:cora",
)


def _one_of(kind: str, part: str, parts: tuple[str, ...]) -> str:
    if not part and len(parts) == 1:
        return parts[0]
    if part not in parts:
        raise InputError(f"{kind} has {', '.join(f'{kind}:{p}' for p in parts)}, not {kind}:{part}")
    return part


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _read(file: Path) -> list[dict[str, str]]:
    return read_rows(file, "give --data the folder that holds nas/")


def _table(
    name: str,
    space: Space,
    rows: list[tuple[dict[str, object], dict[str, str]]],
    seen: str,
    verdict: str | None,
    cost: str | None,
    near: float = NEAR,
) -> Table:
    if not rows:
        raise InputError(f"{name} has no rows to search: give --data the original files")
    columns = [c for c in (seen, verdict, cost) if c is not None]
    if cost is not None:
        there = [c for c in rows[0][1] if c not in (seen, verdict) and all(_positive(row[c]) for _, row in rows)]
        if cost not in there:
            raise InputError(f"{name} has no column {cost!r} to minimise: choose from {', '.join(there)}")
    objectives = [Objective(seen, maximise=True)]
    if cost is not None:
        objectives.append(Objective(cost, log=True))
    metrics = [(options, {c: float(row[c]) for c in columns}) for options, row in rows]
    if not all(math.isfinite(value) for _, row in metrics for value in row.values()):
        raise InputError(f"{name} has an accuracy that is no number: give --data the original files")
    return table_of(name, space, metrics, objectives, Objective(verdict or seen, maximise=True), near=near)
