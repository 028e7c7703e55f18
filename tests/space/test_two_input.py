"""DARTS's and NASNet's spaces, and the notations of published cells."""

from __future__ import annotations

import random
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.space.cell import nas_bench_201
from sartor.space.strings import genotype, nb201_string, parse_genotype, parse_nb201
from sartor.space.two_input import CELLS, darts_space, nasnet_space, plan

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)
"""As the authors published it (second order)."""


class TestDarts(SpaceSuite):
    space = darts_space()


class TestDartsWithNone(SpaceSuite):
    space = darts_space(none=True)


class TestNasnet(SpaceSuite):
    space = nasnet_space(blocks=2)


class TestNasnetOfTwoWaysToMeet(SpaceSuite):
    space = nasnet_space(blocks=2, combine=("add", "concat"))


@pytest.mark.parametrize("nodes", [1, 3, 4])
def test_darts_has_as_many_archs_as_the_formula(nodes: int):
    assert darts_space(nodes=nodes).count() == prod(k * (k + 1) // 2 * 7**2 for k in range(1, nodes + 1)) ** 2
    assert (
        darts_space(nodes=nodes, none=True).count() == prod(k * (k + 1) // 2 * 8**2 for k in range(1, nodes + 1)) ** 2
    )


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("combine", [("add",), ("add", "concat")])
def test_nasnet_has_as_many_archs_as_the_formula(blocks: int, combine: tuple[str, ...]):
    space = nasnet_space(blocks=blocks, combine=combine)
    assert space.count() == prod((b + 2) ** 2 * 13**2 * len(combine) for b in range(blocks)) ** 2


@given(st.integers(0, 10**6))
def test_a_nasnet_cell_puts_out_every_state_that_nothing_hears(seed: int):
    arch = nasnet_space().sample(random.Random(seed))
    for cell in CELLS:
        planned = plan(arch, cell)
        heard = {state for step in planned.steps for state in step.inputs}
        assert heard | set(planned.concat) == set(range(7))
        assert not heard & set(planned.concat)
        assert all(state < number + 2 for number, step in enumerate(planned.steps) for state in step.inputs)


def test_a_darts_cell_puts_out_its_nodes():
    planned = plan(darts_space().sample(random.Random(0)), "normal")
    assert planned.concat == (2, 3, 4, 5)
    assert all(step.inputs[0] < step.inputs[1] for step in planned.steps)


@given(st.integers(0, 10**6), st.booleans())
def test_genotypes_are_read_as_they_are_written(seed: int, none: bool):
    arch = darts_space(none=none).sample(random.Random(seed))
    assert parse_genotype(genotype(arch)) == arch


def test_a_published_genotype_is_an_arch():
    arch = parse_genotype(DARTS_V2)
    assert darts_space().contains(arch)
    assert arch["normal.3.inputs"] == "0,2"
    assert (arch["normal.3.op0"], arch["normal.3.op1"]) == ("skip_connect", "dil_conv_3x3")
    assert (arch["normal.2.op0"], arch["normal.2.op1"]) == ("skip_connect", "sep_conv_3x3")  # published the other way
    assert parse_genotype(DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)")) == arch
    assert parse_genotype(genotype(arch)) == arch


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Genotype",
        "Genotype()",
        "Genotype(normal=[], reduce=[])",
        "__import__('os').system('true')",
        "Genotype(normal=__import__('os').getcwd(), reduce=[])",
        "Genotype(**{'normal': []})",
        DARTS_V2 + ".normal",
        DARTS_V2.replace("sep_conv_3x3", "sep_conv_9x9"),
        DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)"),  # a node that is not there yet
        DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)"),  # one state twice
        DARTS_V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[4, 5]"),
        DARTS_V2.replace(", ('dil_conv_3x3', 2)", ""),
        DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"),
        DARTS_V2.replace("[2, 3, 4, 5]", "range(10**9)"),
        DARTS_V2.replace("[2, 3, 4, 5]", f"range({10**30})"),  # longer than any memory
        DARTS_V2.replace("[2, 3, 4, 5]", "range('a')"),
        DARTS_V2.replace("[2, 3, 4, 5]", "7"),
        "Genotype(normal=" + "(" * 9000,
        "x" * 20_000,
        None,
    ],
)
def test_what_is_no_genotype_is_refused_in_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_genotype(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.integers(0, 10**6))
def test_nas_bench_201_strings_are_read_as_they_are_written(seed: int):
    arch = nas_bench_201().sample(random.Random(seed))
    assert parse_nb201(nb201_string(arch)) == arch


def test_every_published_string_is_read_and_written(published):
    texts = [row["arch_str"] for row in published("nb201.csv.gz")][::25]
    assert [nb201_string(parse_nb201(text)) for text in texts] == texts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|",
        "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+" * 1_000,
        "|a~0|+|a~0|a~1" * 600,
        "|max~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        7,
    ],
)
def test_what_is_no_nas_bench_201_string_is_refused(text):
    with pytest.raises(InputError):
        parse_nb201(text)


def test_sizes_are_checked():
    for wrong in (
        lambda: darts_space(nodes=0),
        lambda: nasnet_space(blocks=0),
        lambda: nasnet_space(combine=("multiply",)),
        lambda: nasnet_space(combine=()),
        lambda: plan(nas_bench_201().smallest(), "normal"),
    ):
        with pytest.raises(InputError):
            wrong()
