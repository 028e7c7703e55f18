"""What every test shares: where real data lives, and how many threads a test may take."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

# Before anything imports torch, and inherited by every process a test starts: tiny tensors run slower on many threads.
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

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own, it draws the same each time."""
    import torch

    torch.manual_seed(0)


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
