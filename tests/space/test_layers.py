"""Layers in a row: an arch is their list."""

from __future__ import annotations

import random

import pytest

from sartor.errors import InputError
from sartor.space import Choice
from sartor.space.layers import CONVOLUTIONS, layers_space


def test_archs_are_lists_of_layers():
    space = layers_space(4)
    each = 1
    for attribute in CONVOLUTIONS:
        each *= len(attribute.options)
    assert space.count() == sum(each**n for n in range(1, 5))
    for seed in range(20):
        arch = space.sample(random.Random(seed))
        layers = space.layers(arch)
        assert len(layers) == arch["depth"]
        assert space.arch_of(layers) == arch


def test_what_is_no_network_is_refused():
    space = layers_space(2)
    layer = space.layers(space.smallest())[0]
    for layers in ([], [layer] * 3, [{**layer, "width": 5}], [{k: v for k, v in layer.items() if k != "op"}]):
        with pytest.raises(InputError):
            space.arch_of(layers)
    with pytest.raises(InputError, match="at least one layer"):
        layers_space(0)
    for attributes in ((), (Choice("op", (1, 2)), Choice("width", (3,), when=("op", (1,))))):
        with pytest.raises(InputError, match="without conditions"):
            layers_space(2, attributes)
