"""A space of which only some archs exist."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sartor.records import Arch
from sartor.space import Choice, Space
from sartor.space.listed import Listed

WHOLE = Space(
    (
        Choice("op", ("plain", "wide")),
        Choice("kernel", (3, 5, 7), when=("op", ("wide",))),
        Choice("depth", (1, 2, 3)),
        Choice("width", (8, 16, 24, 32)),
    )
)
ALL = tuple(WHOLE.every())
SOME = st.sets(st.sampled_from(ALL), min_size=1, max_size=20).map(lambda held: tuple(sorted(held, key=lambda a: a.key)))


def apart(a: Arch, b: Arch) -> int:
    return sum(a.get(c.name) != b.get(c.name) for c in WHOLE.choices)


@given(SOME, st.integers(0, 99))
def test_whatever_is_drawn_exists(archs: tuple[Arch, ...], seed: int) -> None:
    space, rng = Listed(WHOLE.choices, archs), random.Random(seed)
    a, b = space.sample(rng), space.sample(rng)
    drawn = [space.mutate(a, rng), space.mutate(a, rng, 0.0), space.cross(a, b, rng), space.smallest(), space.largest()]
    assert all(space.contains(arch) and arch in archs for arch in (a, b, *drawn))
    assert space.count() == len(archs) == len(list(space.every()))
    if len(archs) > 1:
        assert space.mutate(a, rng) != a


@given(SOME, st.integers(0, 99))
def test_neighbours_exist_and_are_the_nearest(archs: tuple[Arch, ...], seed: int) -> None:
    space = Listed(WHOLE.choices, archs)
    arch = space.sample(random.Random(seed))
    near = list(space.neighbours(arch))
    assert arch not in near
    assert set(near) <= set(archs)
    assert bool(near) == (len(archs) > 1)
    one_away = {a for a in WHOLE.neighbours(arch) if a in archs}
    least = min((apart(arch, a) for a in archs if a != arch), default=0)
    assert set(near) == (one_away or {a for a in archs if a != arch and apart(arch, a) == least})


def test_neighbours_of_a_whole_space_differ_in_one_choice() -> None:
    arch = WHOLE.canonical({"op": "wide", "kernel": 5, "depth": 2, "width": 8})
    near = list(WHOLE.neighbours(arch))
    assert len(near) == len(set(near)) == 1 + 2 + 2 + 3
    assert all(WHOLE.contains(a) for a in near)
    for other in near:
        assert apart(arch, other) == (2 if other["op"] == "plain" else 1), "the kernel goes with its operator"


@given(SOME, st.integers(0, 99))
def test_what_does_not_exist_becomes_the_nearest(archs: tuple[Arch, ...], seed: int) -> None:
    space, rng = Listed(WHOLE.choices, archs), random.Random(seed)
    for wanted, found in ((WHOLE.smallest(), space.smallest()), (WHOLE.largest(), space.largest())):
        assert apart(wanted, found) == min(apart(wanted, arch) for arch in archs)
    arch = space.sample(rng)
    kept = space.restrict({"width": (arch["width"],)})
    assert {a for a in archs if a["width"] == arch["width"]} == set(kept.every())


def test_what_leads_nowhere_ends_at_the_nearest() -> None:
    archs = [WHOLE.canonical({"op": "plain", "depth": d, "width": w}) for d, w in ((1, 8), (3, 32))]
    space = Listed(WHOLE.choices, tuple(archs))
    assert space.mutate(archs[0], random.Random(0)) == archs[1]
    assert space.smallest() == archs[0]
    assert list(space.neighbours(archs[0])) == [archs[1]]
