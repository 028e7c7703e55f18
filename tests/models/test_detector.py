"""torchvision's detectors, cut up to their heads, stay detectors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graph.test_exact import error, stirred
from sartor.errors import InputError
from sartor.graph import trace
from sartor.models.detector import Detector
from sartor.models.torchvision_ops import define_missing_ops
from sartor.models.zoo import open_model

define_missing_ops()
detection = pytest.importorskip("torchvision.models.detection", reason="torchvision: pip install torchvision")

IMAGES = (1, 3, 32, 32)


class Pyramid(nn.Module):
    """Two levels, as a feature pyramid's: {"0": [n, 64, h, w], "1": [n, 64, h / 2, w / 2]}."""

    out_channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fine, self.coarse = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(16, 64, 1), nn.Conv2d(16, 64, 3, 2, 1)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        x = self.stem(x).relu()
        return OrderedDict([("0", self.fine(x)), ("1", self.coarse(x))])


def anchors() -> Any:
    return detection.anchor_utils.AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)


def one_stage(kind: str) -> nn.Module:
    net: nn.Module = getattr(detection, kind)(Pyramid(), 3, anchor_generator=anchors(), min_size=32, max_size=32)
    return net


def two_stages(kind: str) -> nn.Module:
    pools = {
        f"{what}_roi_pool": detection.faster_rcnn.MultiScaleRoIAlign(["0", "1", "absent"], size, 2)
        for what, size in (("box", 3), ("mask", 4), ("keypoint", 4))
        if what in ("box", kind[:-4].lower())
    }
    heads: dict[str, Any] = {"box_head": detection.faster_rcnn.TwoMLPHead(64 * 9, 20)}
    heads["box_predictor"] = detection.faster_rcnn.FastRCNNPredictor(20, 3)
    if kind == "MaskRCNN":
        heads["mask_head"] = detection.mask_rcnn.MaskRCNNHeads(64, (10,), 1)
        heads["mask_predictor"] = detection.mask_rcnn.MaskRCNNPredictor(10, 8, 3)
    if kind == "KeypointRCNN":
        heads["keypoint_head"] = detection.keypoint_rcnn.KeypointRCNNHeads(64, (10, 10))
        heads["keypoint_predictor"] = detection.keypoint_rcnn.KeypointRCNNPredictor(10, 5)
    net: nn.Module = getattr(detection, kind)(
        Pyramid(), min_size=32, max_size=32, rpn_anchor_generator=anchors(), **pools, **heads
    )
    return net


@pytest.mark.parametrize("kind", ["RetinaNet", "FCOS", "FasterRCNN", "MaskRCNN", "KeypointRCNN"])
def test_cut_exactly(kind: str) -> None:
    torch.manual_seed(0)
    whole = (two_stages if kind.endswith("RCNN") else one_stage)(kind)
    graph = trace(stirred(Detector(whole)), x := torch.randn(IMAGES))
    assert not graph.frozen
    small: Any = graph.slice(cut := graph.random_cut(0.5))
    with torch.no_grad():
        found, expected = small(x), graph.mask(cut)(x)
    assert found.keys() == expected.keys()
    for name, said in found.items():
        assert error(said, expected[name]) < 1e-5, name
    assert type(small.whole) is type(whole)
    assert small.whole.backbone.fine.out_channels == 32
    assert sum(p.numel() for p in small.parameters()) < 0.6 * sum(p.numel() for p in whole.parameters())


def test_the_cut_detector_detects() -> None:
    """From images of any size to boxes: torchvision's own code around the cut networks. Nothing scores here, so that
    no suppression is called, which torchvision has not everywhere."""
    whole = one_stage("RetinaNet")
    graph = trace(Detector(whole).eval(), torch.randn(IMAGES))
    small: Any = graph.slice(graph.random_cut(0.5))
    (found,) = small.whole([torch.rand(3, 20, 30)])
    assert found["boxes"].shape == (0, 4)
    small.whole.train()
    target = {"boxes": torch.tensor([[2.0, 2, 12, 12]]), "labels": torch.tensor([1])}
    losses = small.whole([torch.rand(3, 32, 32)], [target])
    sum(losses.values()).backward()
    assert small.whole.backbone.stem.weight.grad is not None


def test_a_whole_detector_says_what_to_trace() -> None:
    with pytest.raises(
        InputError, match=r"RetinaNet cannot be captured at .*boxes.py:\d+ .*detector.Detector\(model\)"
    ):
        trace(one_stage("RetinaNet"), ([torch.rand(3, 32, 32)],))
    with pytest.raises(InputError, match="Linear is no detector"):
        Detector(nn.Linear(2, 2))


def test_opened_by_name() -> None:
    opened = open_model("torchvision.detection:ssdlite320_mobilenet_v3_large")
    assert opened.image_shape == (3, 320, 320)
    assert opened.mean == (0.5, 0.5, 0.5)
    assert type(opened.module) is Detector
