"""Every space whose archs can be built, under the contract suite."""

from __future__ import annotations

from contracts.buildable import BuildableSuite
from sartor.models.buildable import spaces


class TestConv(BuildableSuite):
    make = staticmethod(spaces["conv"])


class TestVit(BuildableSuite):
    make = staticmethod(spaces["vit"])


class TestEinspace(BuildableSuite):
    make = staticmethod(spaces["einspace"])


class TestMotifs(BuildableSuite):
    make = staticmethod(spaces["motifs"])


class TestLanguage(BuildableSuite):
    make = staticmethod(spaces["language"])


class TestTyped(BuildableSuite):
    make = staticmethod(spaces["typed"])


def test_every_named_space_has_the_suite():
    tried = {suite.make for suite in BuildableSuite.__subclasses__()}
    assert set(spaces.values()) <= tried
