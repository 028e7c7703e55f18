"""What several tests of recipes need."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def nets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of networks that a person would bring: a module's ``NETS``."""
    file = tmp_path_factory.mktemp("nets") / "nets.py"
    file.write_text(request.module.NETS)
    return str(file)
