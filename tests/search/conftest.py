"""What the tests of search share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def engine(project: Path):
    """The benchmark's module: its tables are the ones tested on."""
    spec = importlib.util.spec_from_file_location("search_engine", project / "benchmarks" / "search_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
