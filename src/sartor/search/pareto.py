"""Dominance and what follows from it: fronts, ranks, crowding, limits, the knee, gains. Volumes: ``hypervolume.py``.

Every function takes costs: a float array ``[n, m]`` of n points and m objectives, all minimised. Turn records into
costs with ``sartor.search.objective.costs``, which flips what is maximised.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError

Costs = NDArray[np.float64]


def checked(costs: object, m: int | None = None) -> Costs:
    """``costs`` as an array ``[n, m]``. Raises InputError for another shape, and NaN."""
    array = np.asarray(costs, dtype=np.float64)
    if array.size == 0:
        array = array.reshape(0, m or (array.shape[1] if array.ndim == 2 else 2))
    if array.ndim != 2 or (m is not None and array.shape[1] != m):
        raise InputError(f"costs must be an array of n points with {m or 'm'} objectives, not of shape {array.shape}")
    if np.isnan(array).any():
        raise InputError("costs hold NaN: leave out the points that could not be measured")
    return array


def dominates(a: object, b: object) -> bool:
    """Whether cost vector ``a`` ``[m]`` is nowhere worse than ``b`` ``[m]`` and somewhere better."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return bool((x <= y).all() and (x < y).any())


def ranks(costs: object) -> NDArray[np.int64]:
    """Rank ``[n]`` of each point: 0 on the front, 1 on the front of what remains, and so on. Equal points share a rank.

    Two objectives take O(n log n): in lexicographic order a point's rank is the first front whose lowest second cost
    so far is above it, and these lows ascend with the rank. More objectives take NSGA-II's O(m n²), vectorised.
    """
    points = checked(costs)
    if points.shape[1] == 2:
        return _ranks_2d(points)
    result = np.full(len(points), -1, dtype=np.int64)
    left = np.arange(len(points))
    rank = 0
    while len(left):
        rest = points[left]
        beaten = np.zeros(len(left), dtype=bool)
        for point in rest:  # row by row, so that memory stays O(n m)
            beaten |= (point <= rest).all(axis=1) & (point < rest).any(axis=1)
        result[left[~beaten]] = rank
        left = left[beaten]
        rank += 1
    return result


def _ranks_2d(points: Costs) -> NDArray[np.int64]:
    result = np.zeros(len(points), dtype=np.int64)
    lows: list[float] = []  # lows[r]: the lowest second cost on front r so far; ascending in r
    previous: tuple[float, float] | None = None
    rank = 0
    for index in np.lexsort((points[:, 1], points[:, 0])):
        first, second = points[index]
        if (first, second) != previous:  # a repeated point keeps the rank of its twin: neither dominates the other
            rank = bisect_right(lows, second)
            if rank == len(lows):
                lows.append(second)
            else:
                lows[rank] = second
            previous = (first, second)
        result[index] = rank
    return result


def nondominated(costs: object) -> NDArray[np.bool_]:
    """Mask ``[n]`` of the points that no other point dominates. Equal points are all kept."""
    return ranks(costs) == 0


def crowding(costs: object) -> NDArray[np.float64]:
    """Crowding distance ``[n]`` of the points of one front; the ends of each objective are infinite.

    The sum over objectives of the gap between a point's neighbours, relative to the objective's range.
    Deb et al., NSGA-II (10.1109/4235.996017), section III-B.
    """
    points = checked(costs)
    n, m = points.shape
    distance = np.zeros(n)
    if n == 0:
        return distance
    for j in range(m):
        order = np.argsort(points[:, j], kind="stable")
        values = points[order, j]
        extent = values[-1] - values[0]
        distance[order[[0, -1]]] = np.inf
        if extent > 0 and n > 2:
            distance[order[1:-1]] += (values[2:] - values[:-2]) / extent
    return distance


def hypervolume_2d(costs: object, reference: object) -> float:
    """The area that the points ``[n, 2]`` dominate below ``reference`` ``[2]``, exactly.

    Points that do not beat the reference in both objectives add nothing.
    """
    points = checked(costs, 2)
    corner = np.asarray(reference, dtype=np.float64)
    points = points[(points < corner).all(axis=1)]
    area, ceiling = 0.0, float(corner[1])
    for index in np.lexsort((points[:, 1], points[:, 0])):
        first, second = points[index]
        if second < ceiling:
            area += (corner[0] - first) * (ceiling - second)
            ceiling = second
    return float(area)


def within(costs: object, limits: object) -> NDArray[np.bool_]:
    """Mask ``[n]`` of the points ``[n, m]`` that no cost of takes over its limit ``[m]``; infinity is no limit.

    The constraints of the epsilon-constraint method (Haimes et al. 1971, 10.1109/TSMC.1971.4308298): one objective is
    minimised over what is left. Raises InputError where the limits are not one for each objective, or NaN.
    """
    bounds = np.asarray(limits, dtype=np.float64)
    points = checked(costs, len(bounds) if bounds.ndim == 1 and len(bounds) else None)
    if bounds.shape != points.shape[1:] or np.isnan(bounds).any():
        raise InputError(f"{points.shape[1]} objectives need as many limits, none of them NaN, not {bounds.tolist()}")
    return np.asarray((points <= bounds).all(axis=1))


def knee(costs: object) -> int:
    """Index of the front's knee: the point furthest below the line through the front's two ends.

    Both objectives are scaled to [0, 1] over the front ``[n, 2]`` first. With one or two points on the front, or
    none below the line, the point nearest to the ideal corner. Raises InputError when there are no points.
    """
    points = checked(costs, 2)
    if not len(points):
        raise InputError("a knee needs at least one point")
    members = np.flatnonzero(nondominated(points))
    scaled = points[members] - points[members].min(axis=0)
    extent = scaled.max(axis=0)
    scaled = scaled / np.where(extent > 0, extent, 1)
    below = 1 - scaled.sum(axis=1)  # signed distance to the line from (0, 1) to (1, 0), up to a factor of sqrt 2
    if below.max() <= 1e-12:
        return int(members[np.argmin((scaled**2).sum(axis=1))])
    return int(members[np.argmax(below)])


def spread(costs: Costs, reference: object, base: Costs, n: int) -> list[int]:
    """Up to n indices of ``costs`` ``[k, m]``, m 2 or 3, that add most hypervolume to ``base``, one at a time.

    Best first. Greedy, because exact subset choice is exponential and hypervolume is submodular: greedy is within
    1 - 1/e. Stops early when nothing adds anything.
    """
    corner = np.asarray(reference, dtype=np.float64)
    pool = checked(costs, len(corner))
    held = checked(base, len(corner))
    held = held[(held < corner).all(axis=1)]
    chosen: list[int] = []
    for _ in range(min(n, len(pool))):
        gain = gains(pool, corner, held)
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break
        chosen.append(best)
        held = np.vstack([held, pool[best]])
    return chosen


def gains(costs: Costs, reference: object, base: Costs) -> NDArray[np.float64]:
    """Hypervolume ``[k]`` that each point of ``costs`` ``[k, m]``, m 2 or 3, alone would add to ``base`` ``[n, m]``.

    Of two objectives, the region below the reference and not dominated by ``base`` is a staircase of vertical strips,
    each with its own ceiling; a point gains from a strip its width right of the point times its height above the point.
    Of three, it is a stack of such regions, one between each two of the base's third costs.
    """
    corner = np.asarray(reference, dtype=np.float64)
    base = base[(base < corner).all(axis=1)]
    if len(corner) == 2:
        return _gains_2d(costs, corner, base)
    levels = np.unique(base[:, 2])
    total = np.zeros(len(costs))
    for low, high in zip(np.concatenate([[-np.inf], levels]), np.concatenate([levels, [corner[2]]]), strict=True):
        thickness = np.clip(high - np.maximum(costs[:, 2], low), 0, None)
        reaching = thickness > 0
        below = base[base[:, 2] <= low, :2]
        total[reaching] += thickness[reaching] * _gains_2d(costs[reaching, :2], corner[:2], below)
    return total


def _gains_2d(costs: Costs, corner: NDArray[np.float64], base: Costs) -> NDArray[np.float64]:
    steps = base[nondominated(base)] if len(base) else base
    steps = np.unique(steps, axis=0)  # first costs ascend, second ones descend
    left = np.concatenate([[-np.inf], steps[:, 0]])
    right = np.concatenate([steps[:, 0], [corner[0]]])
    ceiling = np.concatenate([[corner[1]], steps[:, 1]])
    width = np.clip(right - np.maximum(costs[:, :1], left), 0, None)
    height = np.clip(ceiling - costs[:, 1:], 0, None)
    return np.asarray((width * height).sum(axis=1))
