"""Source code as archs: what is one, and which two are the same."""

from __future__ import annotations

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.records import Arch
from sartor.space.sources import LONGEST, Sources, normalised

CODE = '''"""Motivation."""
import torch
from torch import nn


class Mixer(nn.Module):
    """What it is."""

    def __init__(self, width: int, kernel=4) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel)  # a comment
        scale: float = 2.0
        self.scale = scale

    def forward(self, x):
        left = nn.functional.pad(x, (3, 0))
        return self.conv(left) * self.scale
'''

RENAMED = """
import torch
from torch import nn
class Mixer(nn.Module):
    def __init__(self, w, k=4):
        super().__init__()
        self.filters = nn.Conv1d(w, w, k)
        factor = 2.0
        self.factor = factor
    def forward(self, tokens):
        padded = nn.functional.pad(tokens, (3, 0))
        return self.filters(padded) * self.factor
"""


def test_names_comments_and_formatting_make_no_difference():
    assert normalised(CODE) == normalised(RENAMED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kernel=4", "kernel=5"),
        ("(3, 0)", "(0, 3)"),
        ("Conv1d", "Linear"),
        ("* self.scale", "+ self.scale"),
        ("class Mixer", "class Block"),
        ("nn.Conv1d(width, width, kernel)", "nn.Conv1d(width, kernel, width)"),
        ("return self.conv(left)", "return self.conv(x)"),
        ("forward", "backward"),
    ],
)
def test_what_computes_otherwise_is_another(old, new):
    assert old in CODE
    assert normalised(CODE.replace(old, new)) != normalised(CODE)


def test_arguments_by_name_follow_the_names_of_arguments():
    """Two functions whose arguments stand in another order are two, where they are called by name."""
    one = "def f(a, b):\n    return a - b\nf(a=1, b=2)\n"
    other = "def f(b, a):\n    return b - a\nf(a=1, b=2)\n"
    same = "def g(u, v):\n    return u - v\ng(u=1, v=2)\n"
    assert normalised(one) != normalised(other)
    assert normalised(one) == normalised(same)


@given(st.permutations(["kernel", "width", "conv", "scale", "left"]), st.integers(0, 3))
def test_any_renaming_of_its_own_names_is_the_same(order, lines):
    source = CODE
    for i, name in enumerate(order):
        source = source.replace(name, f"name{i}")
    source = source.replace("\n\n", "\n" * (lines + 2))
    ast.parse(source)
    assert normalised(source) == normalised(CODE)


def test_what_is_contained():
    space = Sources()
    arch = space.canonical({"source": CODE})
    assert space.contains(arch)
    assert space.contains(space.canonical({"source": CODE, "parent": arch.key}))
    assert Sources(classes=("Block",)).contains(Arch({"source": CODE.replace("Mixer", "Block")}))
    for wrong in ({}, {"source": 3}, {"source": "x = 1"}, {"source": CODE, "width": 3}, {"source": CODE, "parent": 1}):
        assert not space.contains(Arch(wrong))


@pytest.mark.parametrize(
    "source", ["class Mixer(", "\x00", "(" * 5000, "class Mixer: pass\n" + "#" * LONGEST, "def Mixer(): pass", ""]
)
def test_what_is_no_source_is_told_in_a_line(source):
    with pytest.raises(InputError) as caught:
        Sources().canonical({"source": source})
    assert "\n" not in str(caught.value)


def test_nothing_is_drawn():
    with pytest.raises(InputError, match="asi_arch"):
        Sources().sample(random.Random(0))
    with pytest.raises(InputError, match="no number"):
        Sources().count()
