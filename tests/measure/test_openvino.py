"""OpenVINO keeps the target contract, reading the same files."""

from __future__ import annotations

import pytest

from contracts.target import TargetSuite
from sartor.measure.targets.named import open_target

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'sartor[openvino]'")


class TestOpenVino(TargetSuite):
    target = open_target("openvino")
