"""What every test shares: where real data lives, and how many threads a test may take."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Tiny tensors run slower on many. Before anything imports torch, and inherited by every process a test starts.
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))

# A background job of a script ignores Ctrl-C, and so would every process a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the first example of a test pays for imports and warm-up, which says nothing about the code under test.
# The same examples each time, so that a change is judged by itself; SARTOR_EXPLORE=1 draws new ones.
settings.register_profile(
    "sartor",
    deadline=None,
    print_blob=True,
    derandomize=not os.environ.get("SARTOR_EXPLORE"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sartor")

THREADS = int(os.environ["OMP_NUM_THREADS"])

MOST_WORKERS = 4
"""Each holds a torch of its own, of which a large machine would start dozens."""

ALONE = ("cli", "docs", "measure", "recipes", "search/workers", "serve")
"""Under tests/: measured times, fits whose time is given, processes that are killed at moments."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``pytest -n auto`` starts."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has to be alone goes last: until then no worker waits for another."""
    tests = Path(__file__).parent
    places = tuple(str(tests / place) for place in ALONE) + tuple(str(tests / f"test_{place}.py") for place in ALONE)
    for item in items:
        if str(item.path).startswith(places):
            item.add_marker("alone")
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    items.sort(key=lambda item: item.path in alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests run beside each other in several workers; one that is marked ``alone`` waits until it is, its fixtures too,
    and has the threads that it would have without workers.

    All hold a lock together, such a test by itself. Whoever waits holds the gate before it, so that it gets its turn.
    """
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if session is None:
        return (yield)
    place = Path(tempfile.gettempdir()) / f"sartor-tests-{session}"
    is_alone = item.get_closest_marker("alone") is not None
    how = fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH
    _take_threads(THREADS if is_alone else 1)
    with contextlib.ExitStack() as held:
        with place.with_suffix(".gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            room = held.enter_context(place.with_suffix(".room").open("w"))
            fcntl.flock(room, how)
        return (yield)


def _take_threads(n: int) -> None:
    """For this process, and those that it starts from now on."""
    import torch

    os.environ["OMP_NUM_THREADS"] = str(n)
    torch.set_num_threads(n)


PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own, it draws the same each time."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor write the caches of whoever runs them; processes that they start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data sets: ``$SARTOR_DATA``, else ``../shared/data`` beside the project."""
    folder = Path(os.environ.get("SARTOR_DATA") or PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set SARTOR_DATA to the folder that holds cifar10/ and hymenoptera/")
    return folder


@pytest.fixture(scope="session")
def published(data_dir: Path) -> Callable[[str], list[dict[str, str]]]:
    """The rows of a published table of ``data_dir``, by its file's name: what is not there is skipped."""

    from sartor.search.tables.rows import read_rows

    def rows(name: str) -> list[dict[str, str]]:
        file = data_dir / "nas" / name
        if not file.is_file():
            pytest.skip(f"no {name} in {file.parent}: set SARTOR_DATA to the folder whose nas/ holds it")
        return read_rows(file, "set SARTOR_DATA")

    return rows


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the checkout."""
    return PROJECT
