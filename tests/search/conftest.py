"""What the tests of search share."""

from __future__ import annotations

import pytest

from programs import benchmark


@pytest.fixture(scope="session")
def engine():
    """The benchmark's module: its tables are the ones tested on."""
    return benchmark("search_engine")
