"""torchvision's detectors up to their heads: all of their weights, and none of the paths that depend on the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import InputError


class Detector(nn.Module):
    """What ``whole``, one of torchvision's detectors, computes with weights: its backbone and every head.

    Images [n, c, h, w], as ``whole.transform`` leaves them, to the heads' raw outputs by name. What comes after, boxes
    decoded and chosen, has no weights, and its sizes depend on the images, so that no graph holds it. ``whole`` is cut
    with this module and stays a detector of its own class: call it, and save it.

    Where a detector looks at regions, each level's whole map is one region here (adaptively pooled, where torchvision
    interpolates): channels are all that a cut changes, and every region has those of all levels.

    Raises InputError for what is no detector of torchvision's.
    """

    def __init__(self, whole: nn.Module):
        super().__init__()
        if not hasattr(whole, "backbone") or not (hasattr(whole, "head") or hasattr(whole, "roi_heads")):
            raise InputError(f"{type(whole).__name__} is no detector of torchvision's: it has no backbone and heads")
        self.whole = whole

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) it is made for; 224 pixels where any size will do."""
        transform: Any = self.whole.transform
        return (len(transform.image_mean), *(transform.fixed_size or (224, 224))[::-1])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        whole: Any = self.whole
        features = whole.backbone(images)
        features = {"0": features} if isinstance(features, Tensor) else features
        if hasattr(whole, "head"):
            return dict(whole.head(list(features.values())))
        said: dict[str, Tensor] = {}
        for name, levels in zip(("objectness", "proposals"), whole.rpn.head(list(features.values())), strict=True):
            said |= {f"{name}.{i}": level for i, level in enumerate(levels)}
        return said | self._regions(features)

    def _regions(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        heads: Any = self.whole.roi_heads
        pooled = lambda pool: torch.cat(
            [F.adaptive_avg_pool2d(features[n], pool.output_size) for n in pool.featmap_names if n in features]
        )
        scores, boxes = heads.box_predictor(heads.box_head(pooled(heads.box_roi_pool)))
        said = {"scores": scores, "boxes": boxes}
        if heads.has_mask():
            said["masks"] = heads.mask_predictor(heads.mask_head(pooled(heads.mask_roi_pool)))
        if heads.has_keypoint():
            said["keypoints"] = heads.keypoint_predictor(heads.keypoint_head(pooled(heads.keypoint_roi_pool)))
        return said
