from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.workers.postgres import Server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A PostgreSQL server for tests that leave it running."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """URLs of empty databases, once of files and once on a server."""
    if request.param == "postgresql":
        return request.getfixturevalue("shared_server").url
    paths = (tmp_path / f"study{i}.db" for i in range(100))
    return lambda: f"sqlite:///{next(paths)}"
