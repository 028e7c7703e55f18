"""What one worker does: propose when all is evaluated, evaluate what is proposed, and wait for the others."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.loop import NotMeasured, check_counts, check_history, evaluated, next_batch
from sartor.search.store import Store
from sartor.search.strategy import Strategy
from sartor.search.workers.alive import heart_of
from sartor.search.workers.claims import DEATHS, HEARTBEAT_S, Claim, Claims
from sartor.space.space import Space

LONGEST_PAUSE_S = 1.0
"""Between two looks at what the others have done."""


def work(
    space: Space,
    evaluate: Callable[[Arch], Mapping[str, float]],
    strategy: Strategy,
    store: Store,
    *,
    evaluations: int,
    seed: int,
    batch: int = 8,
    initial: Sequence[Arch] = (),
    provenance: Mapping[str, Any] | None = None,
    on_record: Callable[[Record], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    heartbeat_s: float = HEARTBEAT_S,
) -> list[Record]:
    """:func:`sartor.search.loop.search`, together with every other process that calls this on the same ``store``.

    The history is that of one process, name by name and metric by metric, whatever the number of workers: a batch is
    proposed, from all that was evaluated before it, by whoever is first; its archs are claimed one by one; the next
    batch is proposed when the last of them has been evaluated. So no more than ``batch`` workers have something to do.
    Returns when ``evaluations`` are finished, by anyone.

    What a worker that died had claimed is claimed anew: at once by those who can see that its process has ended, and by
    those elsewhere when its heart has not beaten for :data:`sartor.search.workers.claims.BEATS` times ``heartbeat_s``.
    (The heart is a thread: an evaluator that holds Python's lock that long in native code stops it. ``limited``, in
    ``sartor.search.evaluators``, keeps the two apart.) An evaluation at which ``DEATHS`` workers died is recorded as
    failed. What the evaluator raises ends this worker, and gives the arch back; ``on_record`` is told of this worker's
    own records.

    Raises InputError as ``search`` does, and where the study is of another seed, or another batch is at work in it.
    """
    check_counts(evaluations, batch)
    claims = Claims(store, {"seed": seed, "batch": batch}, heartbeat_s)
    checked, pause = 0, 0.0
    with heart(claims) as held:
        while True:
            if should_stop is not None and should_stop():
                store.look()
                return store.records()
            claim = claims.take(evaluations) if pause == 0 or claims.free(evaluations) else None
            if claim is not None:
                held[:] = [claim]
                record = _evaluate(claims, claim, evaluate)
                if claims.finish(claim, record) and on_record is not None:
                    on_record(record)
                held[:], pause = [], 0.0
                continue
            planned = store.look()
            claims.check(planned)
            if any(plan.value["index"] < evaluations for plan in planned):  # others are at them
                pause = min(LONGEST_PAUSE_S, 2 * pause + 0.01)
                time.sleep(pause)
                continue
            history = store.records()
            check_history(space, history[checked:])
            checked, pause = len(history), 0.0
            if checked >= evaluations:
                return history
            if history and history[-1].provenance.get("seed", seed) != seed:  # or one who mistypes it stops the others
                raise InputError(
                    f"the study {store.name} was searched with seed {history[-1].provenance['seed']}, not {seed}: "
                    "give the same, or choose another study"
                )
            found = next_batch(space, strategy, history, initial, seed, batch)
            if not found.archs:
                return history
            notes = {**(provenance or {}), **found.provenance(seed)}
            claims.plan(found, found.archs[: evaluations - checked], notes)


def _evaluate(claims: Claims, claim: Claim, evaluate: Callable[[Arch], Mapping[str, float]]) -> Record:
    notes = {**claim.provenance, "worker": f"{claims.worker.host}:{claims.worker.pid}"}

    def lost(_: Arch) -> Mapping[str, float]:
        raise NotMeasured(f"{claim.deaths} workers died evaluating it")

    return evaluated(f"a{claim.index}", claim.arch, lost if claim.deaths >= DEATHS else evaluate, notes)


@contextlib.contextmanager
def heart(claims: Claims) -> Iterator[list[Claim]]:
    """A list: for the claim in it, a heart beats beside what is done meanwhile. What is in it in the end, because of an
    error or Ctrl-C, is given back: another worker need not wait."""
    held: list[Claim] = []
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(claims.heartbeat_s):
            for claim in list(held):
                claims.beat(claim)

    thread = threading.Thread(target=beat, name=heart_of(claims.worker.token), daemon=True)
    thread.start()
    try:
        yield held
    finally:
        stop.set()
        thread.join()
        for claim in held:
            claims.give_back(claim)
