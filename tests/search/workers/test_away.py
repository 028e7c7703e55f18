"""A server that goes away in the middle of a search, and databases that cannot be opened."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from contracts.strategy import FLAT, evaluate, history_of
from sartor.errors import InputError
from sartor.search import run
from sartor.search.store import Store
from search.workers.noted import ended, join, notes, plain, until
from search.workers.postgres import Server
from search.workers.test_together import alone, evaluated_once, held


@pytest.fixture
def server() -> Iterator[Server]:
    """One of the test's own, to be stopped."""
    server = Server()
    yield server
    server.close()


@pytest.mark.heavy
def test_workers_wait_for_a_server_that_crashes_and_comes_back(server, tmp_path):
    """It crashes in the middle of evaluations, twice; nothing that was finished is lost or made again."""
    url, file = server.url(), tmp_path / "notes"
    workers = [join(url, file, ["nsga2"], seconds=0.2, heartbeat_s=0.5) for _ in range(2)]
    for evaluations in (4, 13):
        until(lambda n=evaluations: len(notes(file, "ended")) >= n)
        server.stop()
        time.sleep(1.5)
        server.start()
    said = ended(*workers)
    assert any("is away" in text and "is back" in text for text in said)
    assert not any("Traceback" in text for text in said)
    assert plain(held(url, "nsga2")) == plain(alone("nsga2"))
    assert evaluated_once(file, 24)


@pytest.mark.heavy
def test_a_server_that_stays_away_ends_the_search_which_goes_on_later(server):
    url, calls = server.url(), []

    def stops(arch):
        calls.append(arch)
        if len(calls) == 3:
            server.stop()
        return evaluate(arch)

    with Store(url, choices=FLAT.choices, patience_s=0.5) as store:
        with pytest.raises(InputError, match=r"is away \(.*not back within 0.5 s: nothing .* lost; run the") as caught:
            run(FLAT, stops, "random", 6, store=store)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=r"refused.*: start the server"):
            Store(url, choices=FLAT.choices)
    server.start()
    with Store(url, choices=FLAT.choices) as store:
        assert len(store) == 2, "the third was evaluated, and nobody was there to write it down"
        found = run(FLAT, evaluate, "random", 6, store=store)
    assert plain(found) == plain(run(FLAT, evaluate, "random", 6))


@pytest.mark.heavy
def test_a_server_may_come_later_than_its_workers(server):
    import threading

    url = server.url()
    server.stop("fast")
    threading.Timer(1.0, server.start).start()
    with Store(url, choices=FLAT.choices, opening_s=60) as store:
        assert len(store) == 0


def test_appending_to_a_server_alone(shared_server):
    """What one process appends, by itself, comes back as it was."""
    url, records = shared_server.url(), history_of(FLAT, 5)
    with Store(url, choices=FLAT.choices) as store:
        for record in records:
            store.append(record)
    with Store(url, choices=FLAT.choices) as store:
        assert [r.to_dict() for r in store.records()] == [r.to_dict() for r in records]


def test_a_database_that_is_not_there_is_one_line(shared_server):
    url = shared_server.url()
    with pytest.raises(InputError, match=r'"missing" does not exist\): create it first') as caught:
        Store(url.rsplit("/", 1)[0] + "/missing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://user:secret@host/db", r"not mysql://user:\*\*\*@host/db: write sqlite:///PATH or postgresql"),
        ("sqlite://", "write sqlite:///PATH"),
        ("sqlite:///:memory:", "write sqlite:///PATH"),
        ("postgresql+psycopg://user:secret@host:port/db", "is no URL"),
        ("postgresql://user:secret@127.0.0.1:1/db", r"user:\*\*\*@127.0.0.1:1/db .*refused\S*: start the server"),
        ("postgresql://user:secret@no.such.host.invalid/db", "correct the host in the URL"),
    ],
)
def test_what_is_no_database_is_one_line_without_the_password(url, reason):
    if "psycopg" in url or url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="no driver: pip install 'sartor[postgres]'")
    with pytest.raises(InputError, match=reason) as caught:
        Store(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_without_its_driver_a_server_is_one_line_that_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)  # as Python itself notes what cannot be imported
    with pytest.raises(InputError, match=r"pip install 'sartor\[postgres\]'"):
        Store("postgresql+psycopg://user@host/db")
