"""Labels keep their meaning through any chain of ties, views and cuts."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.graph.atoms import Atoms, Label, unlabelled


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def joined(a: Label, b: Label) -> Label:
    width = max(a.shape[1], b.shape[1])
    return np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=-1) for x in (a, b)])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_was_tied_goes_together(data: st.DataObject) -> None:
    """After random ties, views, flattenings, joins, parts and freezes, every fact holds for every random cut: tied
    positions go together, a position of a flat dimension goes exactly when one of its coordinates goes, and what is
    frozen stays."""
    atoms = Atoms()
    labels = [*(atoms.fresh(12) for _ in range(3)), atoms.fresh(24), unlabelled(12)]
    facts: list[tuple[str, Label, list[Label]]] = []
    for _ in range(data.draw(st.integers(1, 10))):
        step = data.draw(st.sampled_from(["tie", "split", "merge", "part", "join", "freeze"]))
        x = data.draw(st.sampled_from(labels))
        y = data.draw(st.sampled_from(labels))
        if step == "tie":
            same = [label for label in labels if len(label) == len(x)]
            y = data.draw(st.sampled_from(same))
            atoms.unify(x, y, "test")
            facts.append(("tied", x, [y]))
        elif step == "split":
            a = data.draw(st.sampled_from(divisors(len(x))))
            b = data.draw(st.sampled_from(divisors(len(x) // a)))
            parts = atoms.split(x, (a, b, len(x) // a // b), "test")
            facts.append(("product", x, parts))
            labels += parts
            labels.append(atoms.merge(data.draw(st.permutations(parts))))
        elif step == "merge" and len(x) * len(y) <= 300:
            labels.append(atoms.merge([x, y]))
            facts.append(("product", labels[-1], [x, y]))
        elif step == "part" and len(x) > 1:
            at = data.draw(st.integers(1, len(x) - 1))
            labels += [x[:at], x[at:]]
        elif step == "join" and len(x) + len(y) <= 300:
            labels.append(joined(x, y))
        elif step == "freeze":
            at = data.draw(st.integers(0, len(x) - 1))
            atoms.freeze(x[at : at + 1], "test")
            facts.append(("stays", x[at : at + 1], []))
    cut = np.array(data.draw(st.lists(st.booleans(), min_size=len(atoms), max_size=len(atoms))))
    for kind, label, others in facts:
        gone = atoms.removed(label, cut)
        if kind == "tied":
            assert (gone == atoms.removed(others[0], cut)).all()
        elif kind == "stays":
            assert not gone.any()
        else:
            product = reduce(np.logical_or.outer, [atoms.removed(part, cut) for part in others])
            assert (np.ravel(product) == gone).all()


def test_a_projection_viewed_as_heads_is_a_product() -> None:
    """Three parts of 12 heads of 8 channels: with the parts frozen, 12 and 8 things can go, not 288."""
    atoms = Atoms()
    flat = atoms.fresh(3 * 12 * 8)
    parts, heads, channels = atoms.split(flat, (3, 12, 8), "view")
    atoms.freeze(parts, "q, k and v")
    assert [len(np.unique(atoms.resolve(label))) for label in (heads, channels)] == [12, 8]
    assert atoms.resolve(parts).shape == (3, 0)
    cut = np.zeros(len(atoms), bool)
    cut[atoms.resolve(heads)[5]] = True
    assert np.flatnonzero(atoms.removed(flat, cut)).tolist() == [p * 96 + 40 + d for p in range(3) for d in range(8)]


def test_two_ways_to_divide_the_same_channels_meet() -> None:
    """96 channels as 12 heads of 8, then as 24 groups of 4: heads are pairs of groups, and both can still be cut."""
    atoms = Atoms()
    flat = atoms.fresh(96)
    heads, _ = atoms.split(flat, (12, 8), "heads")
    groups, inside = atoms.split(flat, (24, 4), "groups")
    assert len(np.unique(atoms.resolve(inside))) == 4
    cut = np.zeros(len(atoms), bool)
    cut[atoms.resolve(heads)[3]] = True
    assert np.flatnonzero(atoms.removed(groups, cut)).tolist() == [6, 7]


@pytest.mark.parametrize(("units", "free"), [(1, 58), (2, 29), (3, 15), (4, 8)])
def test_a_channel_shuffle_ties_ever_larger_blocks(units: int, free: int) -> None:
    """ShuffleNet: half of the channels pass, the others go through a branch; a shuffle and a split follow."""
    atoms = Atoms()
    passing = atoms.fresh(58)
    for _ in range(units):
        together = joined(passing, atoms.fresh(58))
        groups, channels = atoms.split(together, (2, 58), "view")
        atoms.freeze(groups, "their number is fixed")
        shuffled = atoms.resolve(atoms.merge([channels, groups]))
        passing = shuffled[:58]
    assert len(np.unique(shuffled)) == free


def test_reasons_are_kept() -> None:
    atoms = Atoms()
    a, b = atoms.fresh(4), atoms.fresh(4)
    atoms.freeze(a, "the output")
    atoms.unify(a, b, "add")
    assert set(atoms.why(np.concatenate([a, b]))) == {"the output", "add"}
