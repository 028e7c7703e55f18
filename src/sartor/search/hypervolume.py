"""Hypervolume, exactly, of one objective to three: what points dominate below a reference point.

Costs as everywhere in ``sartor.search.pareto``: ``[n, m]``, all minimised.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.search.pareto import Costs, checked, hypervolume_2d, nondominated

MOST = 3
"""Objectives up to which it is exact here. Beyond, exact volumes cost more than any evaluation is worth knowing."""


def hypervolume(costs: object, reference: object) -> float:
    """The length, area or volume that the points ``[n, m]`` dominate below ``reference`` ``[m]``, exactly; m is 1 to 3.

    Points that do not beat the reference in every objective add nothing. In O(n log n) comparisons: three objectives
    are swept by the third, while the staircase of the first two is kept with its area (Beume et al.,
    10.1109/TEVC.2009.2015575). Raises InputError for other shapes, and for a reference that is not finite.
    """
    corner = np.asarray(reference, dtype=np.float64)
    points = _below(costs, corner)
    if not len(points):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - points[:, 0].min())
    if len(corner) == 2:
        return hypervolume_2d(points, corner)
    stairs = _Stairs(float(corner[0]), float(corner[1]))
    volume, level = 0.0, float(points[:, 2].min())
    for first, second, third in points[np.lexsort((points[:, 1], points[:, 0], points[:, 2]))].tolist():
        volume += stairs.area * (third - level)
        level = third
        stairs.add(first, second)
    return volume + stairs.area * (float(corner[2]) - level)


class _Stairs:
    """The points of two objectives that no other dominates, first costs ascending, and the area they dominate."""

    def __init__(self, right: float, ceiling: float) -> None:
        self.right, self.ceiling, self.area = right, ceiling, 0.0
        self.first: list[float] = []
        self.second: list[float] = []  # descending

    def add(self, x: float, y: float) -> None:
        place = bisect_right(self.first, x)
        if place and self.second[place - 1] <= y:
            return  # dominated, or there already
        start = bisect_left(self.first, x)
        end = start
        while end < len(self.second) and self.second[end] >= y:
            end += 1
        # What the new step adds, strip by strip: to the right of each step it passes, up to the ceiling that was there.
        edges = [x, *self.first[start:end], self.first[end] if end < len(self.first) else self.right]
        ceilings = [self.second[start - 1] if start else self.ceiling, *self.second[start:end]]
        self.area += sum((b - a) * (c - y) for a, b, c in zip(edges[:-1], edges[1:], ceilings, strict=True))
        self.first[start:end] = [x]
        self.second[start:end] = [y]


def shares(costs: Costs, reference: object, whole: float) -> list[float]:
    """The hypervolume of the first i points of ``costs`` ``[n, m]`` as a share of ``whole``, for i from 1 to n."""
    found: list[float] = []
    alive = np.zeros((0, costs.shape[1]))
    for point in costs:
        if not len(alive) or not (alive <= point).all(axis=1).any():
            alive = np.vstack([alive[~(point <= alive).all(axis=1)], point])
            found.append(hypervolume(alive, reference) / whole)
        else:
            found.append(found[-1])
    return found


def gains_2d(points: Costs, front: Costs, reference: object) -> NDArray[np.float64]:
    """The area ``[k]`` that each of ``points`` ``[k, 2]`` by itself adds to what ``front`` ``[n, 2]`` dominates below
    ``reference`` ``[2]``: for thousands of points at once."""
    corner = np.asarray(reference, dtype=np.float64)
    below = front_of(_below(front, corner)) if len(front) else np.zeros((0, 2))
    stairs = below[np.argsort(below[:, 0])]
    starts = np.concatenate([[-np.inf], stairs[:, 0], corner[:1]])
    gains = np.zeros(len(points))
    for start, end, ceiling in zip(starts[:-1], starts[1:], np.concatenate([corner[1:], stairs[:, 1]]), strict=True):
        width = np.clip(end - np.maximum(points[:, 0], start), 0, None)
        gains += width * np.clip(ceiling - points[:, 1], 0, None)
    return gains


def reference_of(front: Costs) -> NDArray[np.float64]:
    """The corner volumes are counted from, of a front ``[n, m]``: its worst costs and a tenth of its extent beyond, so
    that its ends count for something, and little."""
    extent = np.ptp(front, axis=0)
    return np.asarray(front.max(axis=0) + 0.1 * np.where(extent > 0, extent, 1))


def front_of(costs: Costs) -> Costs:
    """The rows of ``costs`` that no other dominates."""
    return np.asarray(costs[nondominated(costs)])


def _below(costs: object, corner: NDArray[np.float64]) -> Costs:
    if corner.ndim != 1 or not 1 <= len(corner) <= MOST or not np.isfinite(corner).all():
        raise InputError(f"a hypervolume needs a reference of one to {MOST} finite costs, not {corner.tolist()}")
    points = checked(costs, len(corner))
    if np.isneginf(points).any():
        raise InputError("a point with a cost of minus infinity dominates everything: leave it out")
    return np.asarray(points[(points < corner).all(axis=1)])
