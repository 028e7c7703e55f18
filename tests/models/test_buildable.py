"""Every space whose archs can be built, under the contract suite."""

from __future__ import annotations

from functools import partial

from contracts.buildable import BuildableSuite
from sartor.models.buildable import spaces
from sartor.space.autoformer import Ranges


class TestConv(BuildableSuite):
    make = staticmethod(spaces["conv"])


class TestLayers(BuildableSuite):
    exported = 1
    make = staticmethod(partial(spaces["layers"], 4, resolution=16))


class TestVit(BuildableSuite):
    make = staticmethod(spaces["vit"])


class TestOnceForAll(BuildableSuite):
    exported = 1
    make = staticmethod(partial(spaces["ofa"], resolutions=(32, 64), width=0.5, classes=10))


class TestFBNet(BuildableSuite):
    exported = 1
    make = staticmethod(partial(spaces["fbnet"], resolution=32, width=0.5, last=64, classes=10))


class TestMnasNet(BuildableSuite):
    exported = 1
    make = staticmethod(partial(spaces["mnasnet"], resolution=64, width=0.25, classes=10))


class TestNasBenchMacro(BuildableSuite):
    exported = 1
    make = staticmethod(partial(spaces["macro"], stem=8, last=64))


class TestAutoFormer(BuildableSuite):
    exported = 1
    ranges = Ranges(widths=(16, 24), depths=(2, 3, 4), heads=(2, 3), ratios=(1.5, 2.0))
    make = staticmethod(partial(spaces["autoformer"], ranges, resolution=32, patch=8, per_head=8, classes=10))


class TestHat(BuildableSuite):
    exported = 1
    make = staticmethod(partial(spaces["hat"], widths=(16, 24), hidden=(16, 24, 32), inner=16, vocabulary=50, length=7))


class TestFlexiBert(BuildableSuite):
    exported = 2
    make = staticmethod(partial(spaces["flexibert"], widths=(16, 24), hidden=(16, 24), vocabulary=50, length=11))


class TestNb201(BuildableSuite):
    make = staticmethod(partial(spaces["nb201"], 16, channels=8, cells=1))
    exported = 1


class TestDarts(BuildableSuite):
    make = staticmethod(partial(spaces["darts"], 16, channels=4, cells=3))
    exported = 1


class TestNasnet(BuildableSuite):
    make = staticmethod(partial(spaces["nasnet"], 16, channels=4, cells=3))
    exported = 1


class TestRecurrent(BuildableSuite):
    make = staticmethod(partial(spaces["recurrent"], 11, nodes=3, width=8, steps=2))
    exported = 1


class TestEinspace(BuildableSuite):
    make = staticmethod(spaces["einspace"])


class TestMotifs(BuildableSuite):
    make = staticmethod(spaces["motifs"])


class TestLanguage(BuildableSuite):
    make = staticmethod(spaces["language"])


class TestTyped(BuildableSuite):
    make = staticmethod(spaces["typed"])


def test_every_named_space_has_the_suite():
    tried = {getattr(suite.make, "func", suite.make) for suite in BuildableSuite.__subclasses__()}
    assert set(spaces.values()) <= tried
