"""Random small spaces, and an independent list of their archs."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from sartor.records import Arch, Option
from sartor.space import Choice, Space

OPTIONS: list[tuple[Option, ...]] = [
    (1,),
    (16, 32),
    (3, 5, 7),
    (False, True),
    ("mbconv", "fused", "residual"),
    (0.5, 1.0),
]


@st.composite
def spaces(draw: st.DrawFn, most: int = 5) -> Space:
    """Up to ``most`` choices; some depend on an earlier one, which may itself depend on another."""
    choices: list[Choice] = []
    for index in range(draw(st.integers(1, most))):
        when = None
        if choices and draw(st.booleans()):
            parent = draw(st.sampled_from(choices))
            held = draw(st.lists(st.sampled_from(parent.options), min_size=1, unique=True))
            when = (parent.name, tuple(held))
        choices.append(Choice(f"c{index}", draw(st.sampled_from(OPTIONS)), when))
    return Space(tuple(choices))


def enumerated(space: Space) -> set[Arch]:
    """Every arch of ``space``: all combinations of all options, what is inactive struck out, doubles removed."""
    archs = set()
    for options in itertools.product(*(choice.options for choice in space.choices)):
        held = dict(zip((choice.name for choice in space.choices), options, strict=True))
        for choice in space.choices:  # parents come first, so a struck parent strikes its children
            if choice.when is not None and held.get(choice.when[0]) not in choice.when[1]:
                del held[choice.name]
        archs.add(Arch(held))
    return archs
