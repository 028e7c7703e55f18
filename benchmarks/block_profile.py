"""What blocks cost at each place, by whole networks and by parts timed alone, and a search without the worst of them.

    python benchmarks/block_profile.py
    python benchmarks/block_profile.py --networks 60 --target systolic:16x16

200 networks of NAS-Bench-Macro's space (eight places; nothing, or mobile blocks of two sizes) are timed whole; each
block is timed by itself. Asked: a rank correlation above 0.9 between what the regression gives and what the parts take;
and that random search, with the benchmark's accuracies and with latencies summed of the parts, finds a better front in
the space without its worst options than in the whole one, with as many evaluations.

``--data``: the folder of published tables.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path

import numpy as np

from sartor.measure.blocks import BlockProfile, block_profile
from sartor.measure.targets.named import open_target
from sartor.models.buildable import macro_problem
from sartor.records import Arch
from sartor.search.hypervolume import hypervolume
from sartor.search.methods.random import random_search
from sartor.search.tables import open_known
from sartor.space.space import Space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.25, help="of the options, to leave out")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SARTOR_DATA", "../shared/data")))
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    target = open_target(a.target, a.threads)
    table = open_known("macro:cifar10", a.data)
    accuracy = {arch: metrics["mean_acc"] for arch, metrics in table.rows.items()}
    begun = time.perf_counter()
    profile = block_profile(macro_problem(), target, networks=a.networks)
    print(f"{target.name}: {a.networks} networks and their parts in {time.perf_counter() - begun:.0f} s")
    for name, held in profile.effects.items():
        said = "  ".join(f"{o}: {ms:+.3f} ({profile.alone[name][o]:+.3f})" for o, ms in held.items())
        print(f"  {name}  {said}")
    print(f"ms beside the mean of a place, by whole networks (by parts alone); rank correlation {profile.rank:.3f}")
    small = profile.shrunk(a.share, accuracy.__getitem__)
    print(f"without {a.share:.0%} of the options: {', '.join(f'{c.name} {c.options}' for c in small.choices)}")
    whole_, small_ = (volumes(profile, space, accuracy, a.evaluations, a.seeds) for space in (profile.space, small))
    wins = sum(b > w for w, b in zip(whole_, small_, strict=True))
    print(
        f"hypervolume of {a.evaluations} random networks: {np.mean(whole_):.4f} in the whole space, "
        f"{np.mean(small_):.4f} in the smaller one, which is better in {wins} of {a.seeds} seeds"
    )
    if a.json:
        volume = {"whole": float(np.mean(whole_)), "smaller": float(np.mean(small_)), "wins": wins}
        a.json.write_text(json.dumps({**profile.to_dict(), **volume}))


def volumes(
    profile: BlockProfile, space: Space, accuracy: dict[Arch, float], evaluations: int, seeds: int
) -> list[float]:
    """Of each seed: what the front of ``evaluations`` random networks dominates, of accuracy and of latency as the sum
    of parts, both from 0 to 1 over the space of ``profile``."""
    ends = [(min(held.values()), max(held.values())) for held in profile.alone.values()]
    low, high = sum(least for least, _ in ends), sum(most for _, most in ends)
    best, worst = max(accuracy.values()), min(accuracy.values())
    found = []
    for seed in range(seeds):
        archs = random_search(space, [], random.Random(seed), evaluations)
        ms = np.array([sum(profile.alone[name][option] for name, option in arch.items()) for arch in archs])
        lost = np.array([best - accuracy[arch] for arch in archs])
        found.append(hypervolume(np.stack([(ms - low) / (high - low), lost / (best - worst)], axis=1), (1.0, 1.0)))
    return found


if __name__ == "__main__":
    main()
