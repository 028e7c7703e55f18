"""What papers say of surrogates that carry over, on networks that were really trained (``benchmarks/local_tables.py``).

    python benchmarks/surrogates.py                          # everything that the table has
    python benchmarks/surrogates.py --only texts,recipes

Prints a line for each split or seed, and the mean. ``texts``: ONNX-Net, a reader of two families ranks a third, without
and with 20 of its networks. ``graphs``: GENNAPE, fitted to one family, ranks two others. ``grammar``: GRAF with proxies
on einspace, within digits, and from digits to CIFAR-10. ``evolution``: trainings that evolution on CIFAR-10 needs, with
and without that surrogate as its filter (trains networks: minutes). ``recipes``: FBNetV3's predictor with and without
pretraining. ``vits``: As-ViT's score. MACs stand beside each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from onnx import ModelProto

sys.path.insert(0, str(Path(__file__).resolve().parent))

import local_tables as tables

from sartor.export.onnx import onnx_of
from sartor.predict.gennape import Gennape
from sartor.predict.graf import Graf
from sartor.predict.light import kendall
from sartor.predict.operators import onnx_graph
from sartor.predict.text import fit_reader, onnx_text
from sartor.records import Arch
from sartor.search.loop import search
from sartor.search.methods.evolution import evolution
from sartor.search.methods.filtered import filtered
from sartor.search.objective import Objective
from sartor.search.pretrained import Pretrained
from sartor.search.proxies import rank_sum
from sartor.space.graph import ArchGraph
from sartor.space.joint import join, part

FAMILIES = ("cells", "mobile", "grammar")
FEW = 20
LISTENED = ("synflow", "snip", "grad_norm", "l2_norm")
"""Proxies that the grammar's surrogate hears, beside parameters and MACs: those that take a pass or two."""
Figures = dict[str, float]
Rows = Sequence[tables.Row]


@cache
def trained() -> dict[str, list[tables.Row]]:
    return tables.trained()


def accuracies(rows: Rows) -> np.ndarray:
    return np.array([row.accuracy for row in rows])


def macs(rows: Rows) -> np.ndarray:
    return np.array([row.macs for row in rows])


def spearman(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


@cache
def exported(family: str) -> list[ModelProto]:
    """The ONNX models of a family's networks."""
    buildable = tables.PLANS[family]().buildable
    return [onnx_of(buildable.build(row.arch), (3, tables.SIDE, tables.SIDE), draft=True) for row in trained()[family]]


@cache
def texts(family: str) -> list[str]:
    return [onnx_text(model) for model in exported(family)]


@cache
def graphs(family: str) -> Callable[[Arch], ArchGraph]:
    held = {row.arch: onnx_graph(model) for row, model in zip(trained()[family], exported(family), strict=True)}
    return held.__getitem__


def onnx_net(draws: int = 10) -> Iterator[tuple[str, Figures]]:
    """Spearman on each family, read after the two others: before anything is known of it, and of what is left of it
    after FEW of its networks (the mean over draws), where MACs point the way that those few say."""
    for third in FAMILIES:
        rows = trained()[third]
        others = [(texts(name), accuracies(trained()[name])) for name in FAMILIES if name != third]
        true = accuracies(rows)
        zero = spearman(fit_reader(others)(texts(third))[0], true)
        after, cost = [], []
        for seed in range(draws):
            order = np.random.default_rng(seed).permutation(len(rows))
            few, rest = order[:FEW], order[FEW:]
            known = [texts(third)[i] for i in few], true[few]
            reader = fit_reader([*others, known])
            after.append(spearman(reader([texts(third)[i] for i in rest])[0], true[rest]))
            way = 1 if spearman(macs(rows)[few], true[few]) >= 0 else -1
            cost.append(way * spearman(macs(rows)[rest], true[rest]))
        yield (
            third,
            {
                "zero shot": zero,
                "macs": spearman(macs(rows), true),
                f"after {FEW}": float(np.mean(after)),
                "macs of the rest": float(np.mean(cost)),
            },
        )


def gennape(first: str, seeds: int = 5) -> Iterator[tuple[str, Figures]]:
    """Spearman on the families that are not ``first``, of which nothing was seen; the mean over seeds."""
    others = [name for name in FAMILIES if name != first]
    found: dict[str, dict[str, list[float]]] = {name: {"contrast": [], "plain": []} for name in others}
    space = lambda name: tables.PLANS[name]().buildable.space
    rows = trained()[first]
    for seed in range(seeds):
        for kind in ("contrast", "plain"):
            model = Gennape(space(first), seed, contrast=kind == "contrast", graph=graphs(first), unlabelled=0)
            model.fit([row.arch for row in rows], accuracies(rows))
            for name in others:
                told = model.of(space(name), graphs(name)).predict([row.arch for row in trained()[name]])[0]
                found[name][kind].append(spearman(told, accuracies(trained()[name])))
    for name in others:
        cost = spearman(macs(trained()[name]), accuracies(trained()[name]))
        yield f"{first} to {name}", {**{k: float(np.mean(v)) for k, v in found[name].items()}, "macs": cost}


def heard(rows: Rows) -> Callable[[Arch], list[float]]:
    """What the table has of the untrained networks."""
    held = {row.arch: listened({**row.scores, "params": row.params, "macs": row.macs}) for row in rows}
    return held.__getitem__


def listened(scores: Mapping[str, float]) -> list[float]:
    return [float(np.nan_to_num(scores[name], nan=-1e30)) for name in (*LISTENED, "params", "macs")]


def grammar(seeds: int = 5, fitted: int = 100) -> Iterator[tuple[str, Figures]]:
    """Kendall's tau of GRAF with proxies, fitted to ``fitted`` networks trained on the digits: on the others, and on
    networks trained on CIFAR-10, with proxies as they are there."""
    rows, there = trained()["grammar"], trained()["grammar-cifar10"]
    known = {row.arch for row in rows}
    new = [row for row in there if row.arch not in known]
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(rows))
        some, rest = ([rows[i] for i in part] for part in (order[:fitted], order[fitted:]))
        model = Graf(tables.GRAMMAR, seed, proxies=heard(rows)).fit([row.arch for row in some], accuracies(some))
        moved = model.of(heard(new))
        yield (
            f"seed {seed}",
            {
                "within": kendall(model.predict([row.arch for row in rest])[0], accuracies(rest)),
                "macs within": kendall(macs(rest), accuracies(rest)),
                "across": kendall(moved.predict([row.arch for row in new])[0], accuracies(new)),
                "macs across": kendall(macs(new), accuracies(new)),
            },
        )


def trainings(seed: int, surrogate: Graf | None, target: float, most: int) -> int:
    """How many networks evolution trains on CIFAR-10 until one reaches ``target``; ``most`` where none does."""
    plan = tables.PLANS["grammar-cifar10"]()
    best = [0.0]

    def evaluate(arch: Arch) -> dict[str, float]:
        build = partial(plan.buildable.build, arch)
        found = tables.accuracy(build, tables.USUAL, tables.cifar10(), plan.steps, 0)
        best[0] = max(best[0], found)
        return {"accuracy": found}

    wanted = (Objective("accuracy", maximise=True),)
    strategy = partial(evolution, objectives=wanted)
    if surrogate is not None:
        strategy = partial(filtered, score=lambda archs: surrogate.predict(archs)[0], objectives=wanted)
    history = search(
        plan.buildable.space,
        evaluate,
        strategy,
        evaluations=most,
        seed=seed,
        batch=1,
        should_stop=lambda: best[0] >= target,
    )
    return len(history)


def evolutions(seeds: int = 3, most: int = 30) -> Iterator[tuple[str, Figures]]:
    """Trainings until one is as good as the best of 20 in the table of random networks. The surrogate is fitted to all
    of the digits' networks; it has seen none of CIFAR-10's."""
    plan = tables.PLANS["grammar-cifar10"]()
    target = float(np.quantile(accuracies(trained()["grammar-cifar10"]), 0.95))
    rows = trained()["grammar"]
    model = Graf(tables.GRAMMAR, 0, proxies=heard(rows)).fit([row.arch for row in rows], accuracies(rows))
    moved = model.of(lambda arch: listened(tables.scores(plan, arch, *LISTENED, "params", "macs")))
    for seed in range(seeds):
        yield (
            f"seed {seed}, to {target:.3f}",
            {
                "plain": trainings(seed, None, target, most),
                "filtered": trainings(seed, moved, target, most),
            },
        )


def fbnetv3(seeds: int = 20, fitted: int = 30) -> Iterator[tuple[str, Figures]]:
    """Kendall's tau of the predictor on the pairs that it has not seen, with parameters and MACs learnt first and
    without; and of a second training of those pairs, which is what luck leaves."""
    plan = tables.PLANS["recipes"]()
    both = join({"net": plan.buildable.space, "recipe": tables.RECIPES})
    rows = trained()["recipes"]
    pairs = [
        Arch({**{f"net.{k}": v for k, v in row.arch.items()}, **{f"recipe.{k}": v for k, v in row.recipe.items()}})
        for row in rows
    ]

    def statistics(pair: Arch) -> list[float]:
        return [np.log(value) for value in tables.scores(plan, part(pair, "net"), "params", "macs").values()]

    pretrained = Pretrained(both, statistics, about="net", draws=256)
    plain = Pretrained(both, about="net")
    true, again = accuracies(rows), np.array([row.again for row in rows])
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(rows))
        some, rest = order[:fitted], order[fitted:]
        told = {
            name: kendall(
                model.fit([pairs[i] for i in some], true[some]).predict([pairs[i] for i in rest])[0], true[rest]
            )
            for name, model in (("pretrained", pretrained), ("plain", plain))
        }
        yield (
            f"seed {seed}",
            {
                **told,
                "macs": kendall(macs(rows)[rest], true[rest]),
                "trained again": kendall(again[rest], true[rest]),
            },
        )


def as_vit(seeds: int = 5, networks: int = 30) -> Iterator[tuple[str, Figures]]:
    """Kendall's tau of both scores' ranks with accuracy over the first transformers, for each draw of their weights."""
    plan, rows = tables.PLANS["vit"](), trained()["vit"][:networks]
    true = accuracies(rows)
    for seed in range(seeds):
        scores = [tables.scores(plan, row.arch, *tables.AS_VIT, seed=seed) for row in rows]
        alone = {name: kendall(rank_sum(scores, [name]), true) for name in tables.AS_VIT}
        both = kendall(rank_sum(scores, tables.AS_VIT), true)
        yield f"weights {seed}", {"both": both, **alone, "macs": kendall(macs(rows), true)}


PARTS: dict[str, Callable[[], list[Iterator[tuple[str, Figures]]]]] = {
    "texts": lambda: [onnx_net()],
    "graphs": lambda: [gennape(first) for first in FAMILIES],
    "grammar": lambda: [grammar()],
    "recipes": lambda: [fbnetv3()],
    "vits": lambda: [as_vit()],
    "evolution": lambda: [evolutions()],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    wanted = parser.parse_args().only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"there is no {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    for name in wanted:
        print(f"\n{name}")
        lines = []
        for figures in PARTS[name]():
            for title, line in figures:
                lines.append(line)
                print(f"  {title:24}" + "  ".join(f"{key} {value:6.3f}" for key, value in line.items()), flush=True)
        keys = [key for key in lines[0] if all(key in line for line in lines)]
        print(f"  {'mean':24}" + "  ".join(f"{k} {np.mean([line[k] for line in lines]):6.3f}" for k in keys))


if __name__ == "__main__":
    main()
