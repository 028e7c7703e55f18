"""Many processes on one study: the history of one process, whoever evaluates and whoever dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from contracts.strategy import CONDITIONAL, FLAT, InMemory, evaluate
from sartor.errors import InputError
from sartor.records import front
from sartor.search import run
from sartor.search.loop import Batch, evaluated, search
from sartor.search.named import strategies
from sartor.search.objective import ACCURACY_LATENCY
from sartor.search.store import Store
from sartor.search.workers import work
from sartor.search.workers.alive import is_gone, this_worker
from sartor.search.workers.claims import Claims
from sartor.search.workers.work import heart
from search.workers.noted import ended, join, notes, plain, until

OBJECTIVES = ACCURACY_LATENCY


def alone(name: str, budget: int = 24):
    """The history of one process without a store."""
    strategy = partial(strategies[name], objectives=OBJECTIVES)
    return search(CONDITIONAL, evaluate, strategy, evaluations=budget, seed=1, batch=6)


def held(url: str, name: str):
    with Store(url, name=name, choices=CONDITIONAL.choices) as store:
        return store.records()


def evaluated_once(file: Path, archs: int) -> bool:
    ends = [line["arch"] for line in notes(file, "ended")]
    return len(ends) == len(set(ends)) == archs


def test_three_processes_make_the_history_of_one(new_url, tmp_path):
    url, file = new_url(), tmp_path / "notes"
    ended(*[join(url, file, ["nsga2"], seconds=0.02, waiting_for=3) for _ in range(3)])
    assert plain(held(url, "nsga2")) == plain(alone("nsga2"))
    assert evaluated_once(file, 24)
    assert len({line["pid"] for line in notes(file, "ended")}) > 1, "more than one of them worked"


@pytest.mark.heavy
def test_every_strategy_has_the_same_front_whatever_the_number_of_processes(tmp_path):
    """Of four as of one that shares nothing."""
    url, file = f"sqlite:///{tmp_path / 'study.db'}", tmp_path / "notes"
    ended(*[join(url, file, list(strategies), budget=18) for _ in range(4)])
    for name in strategies:
        found, expected = held(url, name), alone(name, 18)
        assert plain(found) == plain(expected), name
        assert plain(front(found)) == plain(front(expected))


def test_a_killed_worker_s_evaluation_is_made_by_another_at_once(new_url, tmp_path):
    """Killed in the middle of an evaluation. Heartbeats are minutes apart here: that its process is gone is seen."""
    url, file = new_url(), tmp_path / "notes"
    first = join(url, file, ["nsga2"], seconds=100, heartbeat_s=100)
    (begun,) = until(lambda: notes(file, "begun"))
    others = [join(url, file, ["nsga2"], seconds=0.02, heartbeat_s=100) for _ in range(2)]
    until(lambda: len(notes(file, "ended")) == 5)  # all of the first batch but one
    first.send_signal(signal.SIGKILL)
    first.communicate()
    ended(*others)
    assert plain(held(url, "nsga2")) == plain(alone("nsga2"))
    assert evaluated_once(file, 24)
    assert [n["pid"] == first.pid for n in notes(file, "begun") if n["arch"] == begun["arch"]] == [True, False]


def elsewhere() -> list[str]:
    """The command that starts a process where numbers of processes mean nothing here: as on another machine."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no leave to start a process in a process namespace of its own (unshare --pid)")
    return command


@pytest.mark.heavy
def test_a_worker_killed_on_another_machine_is_missed_by_its_heartbeat(new_url, tmp_path):
    url, file = new_url(), tmp_path / "notes"
    first = join(url, file, ["random"], seconds=100, heartbeat_s=0.2, under=elsewhere())
    until(lambda: notes(file, "begun"))
    other = join(url, file, ["random"], seconds=0.01, heartbeat_s=0.2)
    until(lambda: len(notes(file, "ended")) == 5)  # all of the first batch but one
    time.sleep(2.5)  # its heart beats, though it says nothing for long
    assert len(notes(file, "ended")) == 5
    first.kill()
    first.communicate()
    ended(other)
    assert plain(held(url, "random")) == plain(alone("random"))
    assert evaluated_once(file, 24)


def test_a_worker_that_was_taken_for_dead_writes_nothing(new_url):
    """Its heart did not beat for too long; what it says in the end is not stored."""
    url = new_url()
    stores = Store(url, choices=CONDITIONAL.choices), Store(url, choices=CONDITIONAL.choices)
    with stores[0] as a, stores[1] as b, contextlib.ExitStack() as hearts:
        slow, quick = Claims(a, {}, heartbeat_s=0.1), Claims(b, {}, heartbeat_s=0.1)
        arch = CONDITIONAL.smallest()
        hearts.enter_context(heart(slow))  # it is there, and does not beat for what it is not told of
        assert slow.plan(Batch(0, (arch,), 1), [arch], {})
        b.look()
        mine = slow.take(1)
        assert mine is not None
        assert quick.take(1) is None, "the first one's heart has just beaten"
        assert slow.beat(mine)
        time.sleep(1.0)
        theirs = quick.take(1)
        assert theirs is not None
        assert theirs.deaths == 1
        assert not slow.beat(mine)
        record = evaluated("a0", arch, evaluate, {})
        assert not slow.finish(mine, record)
        a.look()
        assert a.records() == []
        assert quick.finish(theirs, record)
        assert not quick.finish(theirs, record), "a second time changes nothing: the answer to the first may be lost"
        assert not slow.finish(mine, record)
        assert not a.look()
        assert plain(a.records()) == plain([record])


def test_two_who_propose_at_the_same_time_plan_one_batch(new_url):
    url = new_url()
    with Store(url, choices=FLAT.choices) as a, Store(url, choices=FLAT.choices) as b:
        archs = (FLAT.smallest(), FLAT.largest())
        one, two = Claims(a, {}), Claims(b, {})
        assert one.plan(Batch(0, archs, 2), archs, {})
        assert not two.plan(Batch(0, archs, 2), archs, {})
        assert [row.value["index"] for row in a.look()] == [0, 1]
        with heart(one), heart(two):
            assert {claim.arch for claim in (one.take(2), two.take(2)) if claim} == set(archs)
            again = one.take(2)
        assert again is not None
        assert again.arch == archs[0], "what it holds already: the answer to its claim may be lost"


def test_what_is_given_back_is_there_for_anyone_at_once(new_url):
    url = new_url()
    with Store(url, choices=FLAT.choices) as a, Store(url, choices=FLAT.choices) as b:
        one, two = Claims(a, {}), Claims(b, {})
        archs = (FLAT.smallest(),)
        one.plan(Batch(0, archs, 1), archs, {})
        b.look()
        claim = one.take(1)
        assert claim is not None
        with heart(one):
            assert two.take(1) is None
        one.give_back(claim)
        given = two.take(1)
        assert given is not None
        assert given.deaths == 0
        assert not one.finish(claim, evaluated("a0", claim.arch, evaluate, {}))


def test_what_an_ended_search_of_the_same_process_left_is_taken_at_once(new_url):
    """A database that was away when it ended, say, could not be told."""
    url = new_url()
    with Store(url, choices=FLAT.choices) as store:
        archs = (FLAT.smallest(),)
        before, now = Claims(store, {}), Claims(store, {})
        before.plan(Batch(0, archs, 1), archs, {})
        with heart(before):
            assert before.take(1) is not None
            assert now.take(1) is None
        assert now.take(1) is not None


def test_a_longer_search_goes_on_where_a_shorter_one_ended(new_url):
    """In the middle of a batch, twice; by a process that has the store for itself, and by workers."""
    url = new_url()
    for budget in (7, 11, 24):
        found = run(CONDITIONAL, evaluate, "nsga2", budget, 1, batch=6, store=url)
        assert plain(found) == plain(alone("nsga2", budget))
    strategy = partial(strategies["nsga2"], objectives=OBJECTIVES)
    with Store(url, choices=CONDITIONAL.choices) as store:
        found = search(CONDITIONAL, evaluate, strategy, evaluations=30, seed=1, batch=6, store=store)
    assert plain(found) == plain(alone("nsga2", 30))
    with Store(url, choices=CONDITIONAL.choices) as store:
        found = work(CONDITIONAL, evaluate, strategy, store, evaluations=33, seed=1, batch=6)
    assert plain(found) == plain(alone("nsga2", 33))


def test_initial_archs_a_stop_and_what_one_is_told(tmp_path):
    first, told = [FLAT.smallest(), FLAT.largest()], []
    with Store(tmp_path / "study.db", choices=FLAT.choices) as store:
        arguments = {"evaluations": 9, "seed": 0, "batch": 4, "initial": first, "provenance": {"device": "here"}}
        strategy = partial(strategies["random"], objectives=OBJECTIVES)
        some = work(
            FLAT, evaluate, strategy, store, on_record=told.append, should_stop=lambda: len(told) == 5, **arguments
        )
        assert plain(some) == plain(told)
        assert len(some) == 5
        whole = work(FLAT, evaluate, strategy, store, on_record=told.append, **arguments)
    assert plain(whole) == plain(told) == plain(search(FLAT, evaluate, strategy, **arguments))
    assert all(record.provenance["device"] == "here" for record in whole)
    assert {record.provenance["worker"].split(":")[-1] for record in whole} == {str(os.getpid())}


def test_a_space_that_is_exhausted_ends_the_search(tmp_path):
    from contracts.strategy import TINY

    found = run(TINY, evaluate, "random", 100, batch=4, store=tmp_path / "study.db")
    assert {record.arch for record in found} == set(TINY.every())


def test_another_seed_in_the_middle_of_a_batch_is_refused(new_url):
    url = new_url()
    with Store(url, choices=CONDITIONAL.choices) as store:
        batch = tuple(r.arch for r in alone("random", 6))
        Claims(store, {"seed": 1, "batch": 6}).plan(Batch(0, batch, 6), batch, {})
    with pytest.raises(InputError, match="searched with seed 1, batch 6, not seed 2, batch 6"):
        run(CONDITIONAL, evaluate, "random", 6, 2, batch=6, store=url)


def test_another_seed_than_the_history_s_is_refused(tmp_path):
    run(CONDITIONAL, evaluate, "random", 6, 1, batch=6, store=tmp_path / "study.db")
    with pytest.raises(InputError, match="was searched with seed 1, not 2"):
        run(CONDITIONAL, evaluate, "random", 12, 2, batch=6, store=tmp_path / "study.db")


def test_who_is_known_to_be_dead():
    """A process that has ended, waited for or not, and one whose number another process has now."""
    me = this_worker().to_dict()
    parent = {
        **me,
        "pid": os.getppid(),
        "began": Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(") ")[2].split()[19],
    }
    assert not is_gone(parent)
    assert is_gone({**parent, "began": "1"})
    assert not is_gone({**me, "machine": "another", "began": "1"})
    ended = subprocess.Popen(["true"])
    until(lambda: is_gone({**me, "pid": ended.pid}))  # not waited for yet: a zombie
    ended.wait()
    assert is_gone({**me, "pid": ended.pid})


def test_a_store_with_unfinished_evaluations_is_not_for_one_alone(new_url):
    url = new_url()
    record = evaluated("a0", FLAT.largest(), evaluate, {})
    with Store(url, choices=FLAT.choices) as store:
        batch = (FLAT.smallest(),)
        Claims(store, {"seed": 0, "batch": 1}).plan(Batch(0, batch, 1), batch, {})
        with pytest.raises(InputError, match=r"go on with sartor\.search\.run"):
            store.append(record)
        run(FLAT, evaluate, "random", 1, batch=1, store=store)
        store.append(record)
        assert [r.arch for r in store.records()] == [*batch, record.arch]


def test_a_history_of_another_space_and_records_kept_elsewhere_are_refused(tmp_path):
    with Store(tmp_path / "study.db") as store:
        run(FLAT, evaluate, "random", 1, store=store)
        with pytest.raises(InputError, match="not of this space"):
            run(CONDITIONAL, evaluate, "random", 2, store=store)
    with pytest.raises(InputError, match="2 workers need a store"):
        run(FLAT, evaluate, "random", 2, batch=2, store=InMemory(), workers=2)


def test_optuna_sees_what_waits_what_runs_and_what_has_ended(new_url):
    import optuna

    url = new_url()
    with Store(url, choices=CONDITIONAL.choices) as store:
        claims = Claims(store, {})
        archs = tuple(r.arch for r in alone("random", 3))
        claims.plan(Batch(0, archs, 3), archs, {})
        for index in range(2):
            claim = claims.take(3)
            assert claim is not None
            if index == 0:
                claims.finish(claim, evaluated("a0", claim.arch, evaluate, {}))
        study = optuna.load_study(study_name="search", storage=url)
        trials = study.get_trials()
        assert [t.state.name for t in trials] == ["COMPLETE", "RUNNING", "WAITING"]
        assert [t.params for t in trials] == [dict(arch) for arch in archs]
        assert [t.number for t in trials] == [0, 1, 2]
        assert [t.datetime_start is not None for t in trials] == [True, True, False]
