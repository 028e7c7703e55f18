"""OpenVINO keeps the target contract, reading the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contracts.target import SHAPE, TargetSuite, network
from sartor.export.onnx import export_onnx
from sartor.measure.targets.named import open_target

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'sartor[openvino]'")


class TestOpenVino(TargetSuite):
    target = open_target("openvino")
