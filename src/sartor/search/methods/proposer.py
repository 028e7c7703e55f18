"""A language model as the strategy: asked for archs in words, told in words what became of them.

Zheng et al., GENIUS, P232 (arXiv:2304.10970): the prompt holds the space and the results so far, and the answer is
evaluated. Liu et al., ASI-Arch, P247 (arXiv:2507.18074): propose, test, analyse, with a memory of the best.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.reward import rewarded
from sartor.search.strategy import History, fresh
from sartor.space.space import Space

Ask = Callable[[str], str]
"""A prompt → an answer. The only thing that this module knows of a model."""


def proposer(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    ask: Ask,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    task: str = "",
    best: int = 10,
    recent: int = 5,
    asks: int = 3,
) -> list[Arch]:
    """Up to n archs from what ``ask`` answers; where ``asks`` answers have not enough of use, mutants of the best.

    ``task`` is what a model should know of the problem beside the space. The prompt has the ``best`` archs and the
    ``recent`` last ones. What of an answer is of no use (no JSON, no arch of the space, known already) is told in the
    next prompt of the same proposal.

    A strategy must give the same archs for the same history: ask through :class:`~sartor.search.transcript.Transcript`,
    which remembers the answer to each prompt, unless the model always answers alike.
    """
    seen = {record.arch for record in history}
    found: list[Arch] = []
    wrong: list[str] = []
    for _ in range(asks):
        if len(found) == n:
            break
        answer = ask(
            prompt(space, history, n - len(found), objectives, task=task, best=best, recent=recent, wrong=wrong)
        )
        if not isinstance(answer, str):
            raise InputError(f"ask must answer with text, not {type(answer).__name__}")
        archs, wrong = parsed(answer, space, seen | set(found))
        found += archs[: n - len(found)]
    usable, rewards = rewarded(history, objectives, None)
    parents = [usable[i].arch for i in np.argsort(-rewards, kind="stable")[:best]]

    def other() -> Arch:
        return space.mutate(rng.choice(parents), rng) if parents else space.sample(rng)

    return found + fresh(space, other, rng, n - len(found), seen | set(found))


def prompt(
    space: Space,
    history: History,
    n: int,
    objectives: Sequence[Objective],
    *,
    task: str = "",
    best: int = 10,
    recent: int = 5,
    wrong: Sequence[str] = (),
) -> str:
    """What a model is told: the task, the choices, what was evaluated, what was wrong, and how to answer."""
    parts = [task.strip()] if task.strip() else []
    wanted = ", ".join(f"{o.metric} ({'more' if o.maximise else 'less'} is better)" for o in objectives)
    parts += [f"Choose configurations to evaluate next. What counts: {wanted}."]
    lines = ["The choices and their options:"]
    for choice in space.choices:
        options = ", ".join(json.dumps(option) for option in choice.options)
        when = (
            ""
            if choice.when is None
            else f", only where {json.dumps(choice.when[0])} is "
            + " or ".join(json.dumps(option) for option in choice.when[1])
        )
        lines.append(f"- {json.dumps(choice.name)}: {options}{when}")
    parts.append("\n".join(lines))
    usable, rewards = rewarded(history, objectives, None)
    if usable:
        ranked = [usable[i] for i in np.argsort(-rewards, kind="stable")[:best]]
        parts.append("The best so far, best first:\n" + "\n".join(_told(record, objectives) for record in ranked))
        last = [record for record in history[-recent:] if record not in ranked] if recent else []
        if last:
            parts.append("The last that were evaluated:\n" + "\n".join(_told(record, objectives) for record in last))
        parts.append("First say to yourself which options made these good or bad, then choose what tests that best.")
    if wrong:
        parts.append("Of your last answer these could not be used:\n" + "\n".join(f"- {reason}" for reason in wrong))
    parts.append(
        f"End your answer with a JSON list, and nothing after it, of new configurations: {n} objects, "
        "each with an option for each choice."
    )
    return "\n\n".join(parts)


def _told(record: Record, objectives: Sequence[Objective]) -> str:
    values = [f"{o.metric} {record.metrics[o.metric]:.6g}" for o in objectives if o.metric in record.metrics]
    return f"- {record.arch.to_json()}: {', '.join(values) or 'could not be measured'}"


def parsed(answer: str, space: Space, seen: set[Arch]) -> tuple[list[Arch], list[str]]:
    """The new archs in the JSON list that ``answer`` ends with, and what is wrong with the others, in words.

    Strict: an option must be one of its choice's, of the same type, and all active choices must be there and no others.
    Text before the list, and a fence around it, are ignored.
    """
    listed = _last_list(answer)
    if listed is None:
        return [], ["the answer does not end with a JSON list"]
    found: dict[Arch, None] = {}
    wrong: list[str] = []
    for entry in listed:
        said = json.dumps(entry)[:200]
        try:
            arch = Arch(entry) if isinstance(entry, dict) else None
            if arch is None:
                wrong.append(f"{said}: not an object")
            elif (canonical := space.canonical(arch)) != arch:
                stray = sorted(set(arch) - set(canonical))
                wrong.append(f"{said}: {', '.join(stray)} is no choice here")
            elif not space.contains(arch):
                wrong.append(f"{said}: does not exist")
            elif arch in seen or arch in found:
                wrong.append(f"{said}: known already")
            else:
                found[arch] = None
        except (InputError, ValueError) as error:
            wrong.append(f"{said}: {error}")
    if not listed:
        wrong.append("the list is empty")
    return list(found), wrong


def _last_list(answer: str) -> list[object] | None:
    """The JSON list at the end, or None. Of nested ones the outermost: it begins first."""
    text = answer.rstrip().removesuffix("```").rstrip()
    if not text.endswith("]"):
        return None
    start = text.find("[")
    while start >= 0:
        try:
            value = json.loads(text[start:])
        except RecursionError:  # what is nested so deep is no list of archs, from whichever bracket on
            return None
        except ValueError:
            start = text.find("[", start + 1)
            continue
        return value if isinstance(value, list) else None
    return None
