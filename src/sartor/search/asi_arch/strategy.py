"""ASI-Arch as a strategy: code in, code out, and everything that was said in a transcript."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.asi_arch.fitness import ANCHOR, EDGE, fitness, leaks
from sartor.search.asi_arch.told import analysis, code_of, judgement, mending, proposal, score, told
from sartor.search.objective import Objective
from sartor.search.strategy import History
from sartor.space.sources import Sources, normalised
from sartor.space.space import Space

Ask = Callable[[str], str]
"""A prompt → an answer."""


def asi_arch(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    ask: Ask,
    first: str,
    objectives: Sequence[Objective] = (),
    task: str = "",
    knowledge: Sequence[str] = (),
    judged: bool = True,
    analysed: bool = True,
    pool: int = 50,
    parents: int = 10,
    references: int = 4,
    cold: int = 200,
    refresh: int = 50,
    leak: float | None = EDGE,
    asks: int = 3,
    mends: int = 3,
) -> list[Arch]:
    """Up to n sources that ``ask`` writes. The search begins with the source ``first``, which all are measured against.

    Of the ``pool`` fittest (:func:`~sartor.search.asi_arch.fitness.fitness`), one of the best ``parents`` is drawn to
    be changed, and ``references`` of the others are told beside it, with what ``ask`` said of each in an analysis and,
    of ``knowledge`` (short notes), those nearest to the parent's. The pool is what it was at the last ``refresh``-th
    evaluation; before the first ``cold`` ones all are made from ``first``. What could not be used (it failed a check,
    or its training) is given back to be mended, up to ``mends`` times in a row. What is no code, or the same as a
    source before but for names, is told and asked again, up to ``asks`` times; then there are fewer than n.

    Records need the metrics ``loss`` and ``accuracy``. Give ``ask`` as a
    :class:`~sartor.search.transcript.Transcript`: answers are asked for again in every proposal, and a search that was
    killed goes on from what was answered. For one process: ``workers=1``.

    Source: arXiv:2507.18074 §3. Deviations: what is new is decided on the code, not by embeddings of its motivation;
    notes are found by the words that they share (TF-IDF), not by embeddings; the checks are run, not read by a model.

    Raises InputError for another space, and where ``first`` could not be measured.
    """
    if not isinstance(space, Sources):
        raise InputError("asi_arch writes code: give it the space sartor.space.sources.Sources()")
    if not history:
        return [space.canonical({"source": first})]
    search = _Search(list(history), ask, judged, analysed, leak)
    seen = {normalised(str(record.arch["source"])) for record in history}
    found: list[Arch] = []
    failed = search.to_mend(mends)
    while len(found) < n:
        if failed is not None:
            key, prompt = str(failed.arch.get("parent", "")), partial(mending, task, failed)
        else:
            parent, others = search.drawn(_settled(len(history), cold, refresh), rng, pool, parents, references)
            lines = {record.name: told(record, search.said(record)) for record in (parent, *others)}
            known = recalled(knowledge, " ".join(lines.values()))
            key, prompt = parent.arch.key, partial(proposal, task, parent, others, lines, known)
        arch = _written(search, space, key, prompt, seen, asks)
        if arch is None:
            break
        seen.add(normalised(str(arch["source"])))
        found.append(arch)
        failed = None
    return found


def standing(history: History, *, ask: Ask | None = None, leak: float | None = EDGE) -> list[float | None]:
    """The fitness of each record of a search of :func:`asi_arch`, None where it has none: what failed, and what must
    have leaked. ``ask`` is who judged, where somebody did, and judges what nobody has judged yet."""
    if not history:
        return []
    search = _Search(list(history), ask or (lambda prompt: ""), ask is not None, False, leak)
    return [search.fitness.get(record.name) for record in history]


def _written(
    search: _Search, space: Sources, parent: str, prompt: Callable[[list[str]], str], seen: set[str], asks: int
) -> Arch | None:
    """The first answer of use, each prompt told what was wrong with those before; None where there is none."""
    wrong: list[str] = []
    for _ in range(asks):
        arch, reason = code_of(search.asked(prompt(wrong)), space, parent, seen)
        if arch is not None:
            return arch
        wrong.append(reason)
    return None


def recalled(knowledge: Sequence[str], query: str, most: int = 3) -> list[str]:
    """Up to ``most`` notes that share most with ``query``, by the cosine of their TF-IDF vectors, best first."""
    if not knowledge:
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit_transform([*knowledge, query])
    near = (vectors[:-1] @ vectors[-1].T).toarray().ravel()
    return [knowledge[i] for i in np.argsort(-near, kind="stable")[:most]]


def _settled(evaluated: int, cold: int, refresh: int) -> int:
    """How many of the first records the pool is made of."""
    if evaluated < max(1, cold):
        return 1
    return max(1, cold + (evaluated - cold) // max(1, refresh) * max(1, refresh))


class _Search:
    """What follows from a history and what was answered: nothing here outlives a proposal."""

    def __init__(self, history: list[Record], ask: Ask, judged: bool, analysed: bool, leak: float | None):
        self.history, self.ask, self.judged, self.analysed = history, ask, judged, analysed
        first = history[0]
        if not _measured(first):
            reason = first.provenance.get("failed", "it has no loss and accuracy")
            raise InputError(f"the search cannot begin with a source that cannot be measured: {reason}")
        self.by_key = {record.arch.key: record for record in history}
        self.fitness = {
            record.name: fitness(record.metrics, first.metrics, self._judge(record) if judged else None)
            for record in history
            if _measured(record) and not leaks(record.metrics, first.metrics, leak)
        }

    def asked(self, prompt: str) -> str:
        answer = self.ask(prompt)
        if not isinstance(answer, str):
            raise InputError(f"ask must answer with text, not {type(answer).__name__}")
        return answer

    def to_mend(self, mends: int) -> Record | None:
        """The last record, where it failed and was not mended often enough."""
        failures = 0
        for record in reversed(self.history):
            if _measured(record):
                break
            failures += 1
        return self.history[-1] if 0 < failures <= mends else None

    def drawn(
        self, settled: int, rng: random.Random, pool: int, parents: int, references: int
    ) -> tuple[Record, list[Record]]:
        """A parent of the best, and others of the rest of the pool."""
        usable = [record for record in self.history[:settled] if record.name in self.fitness]
        ranked = sorted(usable, key=lambda record: -self.fitness[record.name])[:pool]
        parent = rng.choice(ranked[:parents])
        rest = ranked[parents:] or [record for record in ranked if record is not parent]
        return parent, rng.sample(rest, min(references, len(rest)))

    def said(self, record: Record) -> str:
        """What was learnt of a network, beside its parent and siblings as they were when it was new."""
        if not self.analysed:
            return ""
        up_to = self.history[: self.history.index(record)]
        mine = record.arch.get("parent")
        beside = [r for r in up_to if mine and (r.arch.key == mine or r.arch.get("parent") == mine)]
        return self.asked(analysis(record, told(record), [told(other) for other in beside]))

    def _judge(self, record: Record) -> float:
        if record is self.history[0]:
            return ANCHOR
        given = score(self.asked(judgement(record, told(record), told(self.history[0]))))
        return ANCHOR if given is None else given


def _measured(record: Record) -> bool:
    return "loss" in record.metrics and "accuracy" in record.metrics
