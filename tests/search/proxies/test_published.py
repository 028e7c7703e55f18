"""Proxies on NAS-Bench-201's own networks, beside the values that were published of the same archs."""

from __future__ import annotations

import pytest
import torch

import programs
from sartor.models.buildable import nb201_problem
from sartor.search.proxies import proxies, proxy_evaluator


@pytest.fixture(scope="module")
def benchmark():
    return programs.benchmark("zero_cost")


@pytest.fixture(scope="module")
def sample(benchmark, data_dir, published):
    published("zero_cost_2022.csv.gz")  # or it is skipped
    return benchmark.archs_of(data_dir, 24, 0)


def test_every_published_column_is_of_a_proxy_there_is(benchmark):
    assert set(benchmark.PUBLISHED) <= set(proxies)
    assert set(benchmark.SUM) <= set(benchmark.PUBLISHED)


def test_synflow_and_size_rank_as_the_published_values_do(benchmark, sample):
    """Neither looks at data; SynFlow's weights are other draws, which moves few ranks."""
    x = torch.zeros(1, 3, 32, 32)
    evaluate = proxy_evaluator(nb201_problem(), ["synflow", "params"], (x, torch.zeros(1, dtype=torch.long)))
    scores = [evaluate(arch) for arch, _, _ in sample]
    for name, least in (("synflow", 0.97), ("params", 0.999)):
        found = benchmark.spearman([one[name] for one in scores], [published[name] for _, _, published in sample])
        assert found > least, name


@pytest.mark.heavy
def test_naswot_ranks_as_the_published_values_do_on_any_images(benchmark, sample):
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    evaluate = proxy_evaluator(nb201_problem(), ["naswot"], (images, torch.zeros(32, dtype=torch.long)))
    scores = [evaluate(arch)["naswot"] for arch, _, _ in sample]
    assert benchmark.spearman(scores, [published["naswot"] for _, _, published in sample]) > 0.9


def test_what_is_not_a_number_ranks_lowest(benchmark):
    nan = float("nan")
    assert benchmark.spearman([nan, 1.0, 2.0], [0.0, 5.0, 9.0]) == pytest.approx(1)
    assert benchmark.spearman([nan, nan, 2.0], [1.0, 1.0, 9.0]) == pytest.approx(1)
