"""What the probe decides: whether images may be mirrored, and whose operator the largest arch gets."""

from __future__ import annotations

import pytest

from sartor.recipes.probe import may_mirror
from sartor.space import conv_space


@pytest.mark.parametrize(
    ("accuracy", "mirrored", "classes", "expected"),
    [
        (0.65, 0.63, 10, True),  # photographs
        (0.90, 0.45, 10, False),  # digits: mirrored ones are still guessed better than by chance
        (0.12, 0.12, 10, False),  # nothing was learnt, so nothing can be said
        (0.55, 0.55, 2, False),
        (0.95, 0.50, 2, False),  # left and right hands: chance is no agreement
        (0.95, 0.94, 2, True),
    ],
)
def test_images_are_mirrored_where_that_is_known_to_do_no_harm(accuracy, mirrored, classes, expected):
    assert may_mirror(accuracy, mirrored, classes) is expected


def test_the_last_operator_is_the_largest_archs():
    """The winner of a race is given last: what a schedule trains most is then built of it."""
    for operators in (("pooled", "residual"), ("residual", "pooled")):
        space = conv_space(32, operators=operators)
        assert {v for k, v in space.largest().items() if k.endswith(".op")} == {operators[-1]}
