"""NAS-Bench-201 (Dong & Yang, arXiv:2001.00326) as the paper has it, and ten searches of it at a simulated cost."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch

from sartor.models.cells import build_nb201
from sartor.search.contest import contest
from sartor.search.tables import open_known
from sartor.search.tables.rows import read_rows
from sartor.space.cell import nas_bench_201
from sartor.space.strings import nb201_string, nb201_topology, parse_nb201

TEN = ["random", "local", "evolution", "bayes", "smbo", "mcts", "reinforce", "optuna-tpe", "hyperband", "bohb"]


def test_there_are_15625_strings_and_6466_topologies():
    space = nas_bench_201()
    archs = list(space.every())
    strings = [nb201_string(arch) for arch in archs]
    assert len(set(strings)) == space.count() == 15625
    assert [parse_nb201(text) for text in strings] == archs
    assert len({nb201_topology(arch) for arch in archs}) == 6466


def test_isomorphic_cells_are_those_that_the_table_calls_so(data_dir: Path):
    space = nas_bench_201()
    topologies: dict[str, set[str]] = defaultdict(set)
    computed: dict[str, set[str]] = defaultdict(set)
    for row in read_rows(data_dir / "nas" / "nb201.csv.gz", "give the folder that holds nas/"):
        arch = parse_nb201(row["arch_str"])
        topologies[row["unique_idx"]].add(nb201_topology(arch))
        computed[row["unique_idx"]].add(space.expression(arch))
    assert len(topologies) == len(set().union(*topologies.values()))
    for same in (*topologies.values(), *computed.values()):
        assert len(same) == 1


def test_archs_of_one_expression_have_the_same_paths():
    """Another account of what a cell does, in which what is absent adds nothing either."""
    space = nas_bench_201()
    paths: dict[str, set[tuple[tuple[str, ...], ...]]] = defaultdict(set)
    for arch in space.every():
        paths[space.expression(arch)].add(tuple(sorted(space.paths(arch))))
    assert all(len(same) == 1 for same in paths.values())
    assert len(paths) < 6466


def test_isomorphic_cells_compute_the_same():
    """Two convolutions on the way to the output, by way of node 1 and of node 2: their weights are the same three."""
    texts = [
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|",
    ]
    space, archs = nas_bench_201(), [parse_nb201(text) for text in texts]
    assert space.expression(archs[0]) == space.expression(archs[1]) == "nor_conv_1x1(nor_conv_3x3(x))"
    nets = [build_nb201(arch, channels=4, cells=1).eval() for arch in archs]
    held = nets[0].state_dict()
    assert sorted(v.shape for v in held.values()) == sorted(v.shape for v in nets[1].state_dict().values())
    for mine, other in zip(nets[1].state_dict().values(), held.values(), strict=True):
        mine.copy_(other)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(nets[0](x), nets[1](x))


def test_ten_strategies_search_it_at_a_simulated_cost_and_again_alike(data_dir: Path):
    """The table has no seconds: what is simulated are trainings of 200 epochs, of which 12 epochs are a part."""
    table = open_known("nb201:cifar10:epochs", data_dir)
    runs = [list(contest(table, TEN, 12, 1)) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert first | {"seconds": 0} == second | {"seconds": 0}
        assert len(first["best_so_far"]) == 12
    evaluated = {entry["strategy"]: entry["evaluations"] for entry in runs[0]}
    assert evaluated["random"] == 12
    assert evaluated["bohb"] > 24  # most of its evaluations are of 12 epochs
