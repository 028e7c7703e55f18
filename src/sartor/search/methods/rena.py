"""RENA: a policy reads a network layer by layer and says how to edit it. Zhou et al., P256 (arXiv:1806.07912)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from sartor.predict.committee import seeded
from sartor.records import Arch, Record
from sartor.search.edit_policy import Controllers
from sartor.search.edits import Editor
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.policy import Floats, advantages
from sartor.search.reward import Reward, rewarded
from sartor.search.strategy import History, declared, fresh
from sartor.space.space import Space


def rena(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    first: int = 10,
    parents: int = 5,
    batch: int = 10,
    lr: float = 0.02,
    entropy: float = 0.02,
    memory: int = 500,
) -> list[Arch]:
    """n archs, each one edit away from one of the ``parents`` best so far: a layer put in, taken out or scaled, as a
    policy draws it that was trained on the history, ``batch`` evaluations a step. The first ``first`` are random.

    ``reward``: a function of the metrics, such as ``search.reward.penalised``, which is the paper's; else the first
    objective. Layers are those of a :class:`sartor.space.layers.Layers`; an arch of any other space is one layer, which
    can only be scaled.

    An LSTM reads the layers' embeddings, three controllers insert, remove and scale, and REINFORCE trains all of it
    (§3). Deviations: one edit a child, for then the history alone tells what the policy may have drawn, and a search
    resumes by replaying it: a child is as likely as the parents and edits that lead to it are together. Which
    controller acts is drawn, too; scaling is a step to the next option, up or down; advantages and entropy bonus are
    those of ``search.policy``. Only the last ``memory`` records are replayed; those that are no edit of what was best
    at their time teach nothing.
    """
    declared(space)
    seen = {record.arch for record in history}
    usable, rewards = rewarded(history[-memory:], objectives, reward)
    if len(usable) < max(first, 1):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    with seeded(0):  # every replay starts with the same weights
        controllers = Controllers(Editor(space))
        _train(controllers, usable, rewards, first, parents, batch, lr, entropy)
        best = _best(usable, rewards, parents)

        def propose() -> Arch:
            parent = rng.choice(best)
            edit = controllers.draw(parent, rng)
            return space.nearest(controllers.editor.done(parent, edit), rng) if edit else space.sample(rng)

        return fresh(space, propose, rng, n, seen)


def _best(usable: Sequence[Record], rewards: Floats, parents: int) -> list[Arch]:
    return [usable[i].arch for i in np.argsort(-rewards, kind="stable")[:parents]]


def _train(
    controllers: Controllers,
    usable: Sequence[Record],
    rewards: Floats,
    first: int,
    parents: int,
    batch: int,
    lr: float,
    entropy: float,
) -> None:
    """A step for each whole ``batch`` of the records after the ``first``."""
    import torch

    optimiser = torch.optim.Adam(controllers.parameters, lr)
    taught = list(zip(usable[first:], rewards[first:], strict=True))
    for number, gains in enumerate(advantages(rewards[first:], batch)):
        children = taught[number * batch : (number + 1) * batch]
        gain = torch.zeros(())
        # Those of a batch were proposed together: from the best of what had been evaluated by then.
        for start, together in groupby(
            zip(range(first + number * batch, len(usable)), children, gains, strict=False),
            key=lambda held: _proposed(usable, held[0]),
        ):
            best = _best(usable[: max(start, 1)], rewards[: max(start, 1)], parents)
            laws = [controllers.law(parent) for parent in best]
            for _, (record, _), advantage in together:
                likely = [p for law in laws if (p := law.likelihood(record.arch)) is not None]
                if likely:
                    gain = gain + float(advantage) * torch.logsumexp(torch.stack(likely), 0)
            gain = gain + entropy * torch.stack([law.entropy for law in laws]).mean()
        optimiser.zero_grad()
        (-gain / batch).backward()
        optimiser.step()


def _proposed(usable: Sequence[Record], place: int) -> int:
    """How many of ``usable`` had been evaluated when the one at ``place`` was proposed."""
    start = usable[place].provenance.get("batch_start")
    while place > 0 and start is not None and usable[place - 1].provenance.get("batch_start") == start:
        place -= 1
    return place
