"""Every space whose archs can be built, under the contract suite."""

from __future__ import annotations

from functools import partial

from contracts.buildable import BuildableSuite
from sartor.models.buildable import spaces


class TestConv(BuildableSuite):
    make = staticmethod(spaces["conv"])


class TestVit(BuildableSuite):
    make = staticmethod(spaces["vit"])


class TestNb201(BuildableSuite):
    make = staticmethod(partial(spaces["nb201"], 16, channels=8, cells=1))
    exported = (2,)


class TestDarts(BuildableSuite):
    make = staticmethod(partial(spaces["darts"], 16, channels=4, cells=3))
    exported = (2,)


class TestNasnet(BuildableSuite):
    make = staticmethod(partial(spaces["nasnet"], 16, channels=4, cells=3))
    exported = (2,)


class TestRecurrent(BuildableSuite):
    make = staticmethod(partial(spaces["recurrent"], 11, nodes=3, width=8, steps=2))
    exported = (2,)


def test_every_named_space_has_the_suite():
    tried = {getattr(suite.make, "func", suite.make) for suite in BuildableSuite.__subclasses__()}
    assert set(spaces.values()) <= tried
