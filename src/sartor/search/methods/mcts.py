"""Monte Carlo tree search: a space as a tree of decisions, of which promising branches are grown.

Negrinho & Gordon, DeepArchitect, arXiv:1704.08792; the rule of descent is UCT (Kocsis & Szepesvári 2006).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from sartor.records import Arch, Option
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.reward import Reward, rewarded, shares
from sartor.search.strategy import History, fresh
from sartor.space.choice import Choice
from sartor.space.space import Space

Path = tuple[int, ...]
"""The moves from the root to a node."""
Parts = Sequence[tuple[Option, ...]]
"""What each move of a node leaves of a choice's options."""


def mcts(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    exploration: float = 0.25,
    bisect: bool = True,
    memory: int = 1000,
) -> list[Arch]:
    """n archs: each descends the tree by UCT to a node that nobody has been to, and on from there at random.

    The tree follows from the history: each record has visited the nodes of its path, and added one. With ``bisect`` an
    ordered choice is a sequence of halvings, so that what is learnt of an option says something of those beside it
    (the paper's restructured tree); else a node has a move for each option.

    Deviations: a record's value is its share, the part of the records that it beats, for UCT wants values in [0, 1] and
    accuracies crowd; branches of which all archs are evaluated are not descended; each arch of a proposal counts as a
    visit without value (virtual loss), so that the next one goes elsewhere; and only the last ``memory`` records are
    replayed.
    """
    usable, values = rewarded(history[-memory:], objectives, reward)
    seen = {record.arch for record in history}
    tree = Tree(space, bisect)
    for record, value in zip(usable, shares(values), strict=True):
        tree.visit(tree.path(record.arch), float(value))
    for record in history[-memory:]:
        tree.close(record.arch)

    def descend() -> Arch:
        arch, path = tree.descend(rng, exploration)
        tree.visit(path, 0.0)
        return space.nearest(arch, rng)

    return fresh(space, descend, rng, n, seen)


def uct(total: float, visits: int, parent: int, exploration: float) -> float:
    """The mean value plus ``exploration · √(2 ln parent / visits)``; UCB1 (Auer et al. 2002) where exploration is 1."""
    return total / visits + exploration * math.sqrt(2 * math.log(max(1, parent)) / visits)


class Tree:
    """Visits and summed values of the nodes that were added, by their path, and which branches are exhausted."""

    def __init__(self, space: Space, bisect: bool = True):
        self.space, self.bisect = space, bisect
        self.nodes: dict[Path, tuple[int, float]] = {}
        self.closed: set[Path] = set()

    def walk(self, move: Callable[[str, Parts], int]) -> Arch:
        """The arch to which ``move`` leads, asked at each node of a choice where there is more than one way."""

        def pick(choice: Choice) -> Option:
            left = choice.options
            while len(left) > 1:
                half = (len(left) + 1) // 2
                parts: Parts = [left[:half], left[half:]] if self.bisect else [(option,) for option in left]
                left = parts[move(choice.name, parts)]
            return left[0]

        return self.space.decide(pick)

    def path(self, arch: Arch) -> Path:
        """The moves that lead to ``arch``."""
        return tuple(move for move, _ in self._moves(arch))

    def _moves(self, arch: Arch) -> list[tuple[int, int]]:
        """The moves that lead to ``arch``, and how many there were to choose from."""
        moves: list[tuple[int, int]] = []

        def follow(name: str, parts: Parts) -> int:
            place = next(i for i, part in enumerate(parts) if arch[name] in part)
            moves.append((place, len(parts)))
            return place

        self.walk(follow)
        return moves

    def visit(self, path: Path, value: float) -> None:
        """Count a visit in each node on the way that is there, and add the first that is not."""
        for depth in range(len(path) + 1):
            visits, total = self.nodes.get(path[:depth], (0, 0.0))
            self.nodes[path[:depth]] = (visits + 1, total + value)
            if not visits:
                return

    def close(self, arch: Arch) -> None:
        """Nothing is left to find at ``arch``, nor in the branches of which it was the last."""
        moves = self._moves(arch)
        path = tuple(move for move, _ in moves)
        self.closed.add(path)
        for depth in range(len(path) - 1, -1, -1):
            if any((*path[:depth], other) not in self.closed for other in range(moves[depth][1])):
                return
            self.closed.add(path[:depth])

    def descend(self, rng: random.Random, exploration: float) -> tuple[Arch, Path]:
        """An arch by UCT as far as the tree goes, then at random; and its path."""
        path: list[int] = []
        inside = True

        def move(_: str, parts: Parts) -> int:
            nonlocal inside
            here = tuple(path)
            ways = [i for i in range(len(parts)) if (*here, i) not in self.closed] or list(range(len(parts)))
            children = {i: (*here, i) for i in ways}
            new = [i for i in ways if children[i] not in self.nodes]
            if not inside:  # as many options, as likely: a roll-out is uniform over them
                chosen = rng.choices(ways, [len(parts[i]) for i in ways])[0]
            elif new:
                inside = False
                chosen = rng.choice(new)
            else:
                parent = self.nodes[here][0]
                held = [self.nodes[children[i]] for i in ways]
                scores = [uct(total, visits, parent, exploration) for visits, total in held]
                chosen = rng.choice([i for i, score in zip(ways, scores, strict=True) if score == max(scores)])
            path.append(chosen)
            return chosen

        return self.walk(move), tuple(path)
