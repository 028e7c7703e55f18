"""What a Gaussian process should see of a cell: ranks of unseen archs of NAS-Bench-201 by four encodings.

    python benchmarks/features.py --data ../shared/data

Kendall's tau between the validation accuracy after 12 epochs and what is predicted of it, over 2,000 cells that the
process was not fitted to, and in brackets over the fastest third of all cells on a 1080 Ti; means over seeds.
"""

from __future__ import annotations

import argparse

import numpy as np

from sartor.predict.light import fit_gaussian_process, kendall
from sartor.search.tables import open_known
from sartor.space.cell import nas_bench_201

SIZES = (30, 100, 200)
TESTED = 2000
DEVICE = "lat_ms_1080ti_1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder that holds nas/")
    parser.add_argument("--seeds", type=int, default=6)
    a = parser.parse_args()
    space = nas_bench_201()
    archs, places = space.listed, space.every_path
    counts = np.zeros((len(archs), len(places)))
    for row, arch in zip(counts, archs, strict=True):
        for path in space.paths(arch):
            row[places[path]] += 1
    encodings = {
        "operators, edge by edge": np.stack([space.encode(arch) for arch in archs]),
        "which paths there are": np.stack([space.encode_paths(arch) for arch in archs]),
        "how many of each path": counts,
        "and which mixtures (ours)": np.stack([space.features(arch) for arch in archs]),
    }
    for name in ("nb201:cifar10", "nb201:cifar100"):
        table = open_known(name, a.data, DEVICE)
        accuracy, latency = (np.array([table.rows[arch][o.metric] for arch in archs]) for o in table.objectives)
        fast = np.flatnonzero(latency < np.quantile(latency, 1 / 3))
        print(f"\n{name:28}" + "".join(f"{f'{size} archs':>18}" for size in SIZES))
        for said, rows in encodings.items():
            found = []
            for size in SIZES:
                taus = []
                for seed in range(a.seeds):
                    drawn = np.random.default_rng(seed).permutation(len(archs))
                    known, rest = drawn[:size], drawn[size:]
                    quick = fast[~np.isin(fast, known)]
                    process = fit_gaussian_process(rows[known], accuracy[known])
                    taus.append([_tau(process, rows, accuracy, some[:TESTED]) for some in (rest, quick)])
                found.append(np.mean(taus, axis=0))
            print(f"{said:28}" + "".join(f"{f'{all_:.3f} ({quick:.3f})':>18}" for all_, quick in found), flush=True)


def _tau(process, rows: np.ndarray, accuracy: np.ndarray, some: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    return kendall(accuracy[some], process.predict(rows[some])[0])


if __name__ == "__main__":
    main()
