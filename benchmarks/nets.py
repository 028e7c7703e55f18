"""Networks that benchmarks train on CIFAR-10, as a user's own file has them: ``benchmarks/nets.py:resnet56``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (3, 32, 32)


class Block(nn.Module):
    """He et al., arXiv:1512.03385 §4.2: two 3x3 convolutions; a projection where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if c_in != c_out or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


def _resnet(blocks: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for stage in range(3):
        for block in range(blocks):
            layers.append(Block(width, 16 * 2**stage, 2 if stage and not block else 1))
            width = 16 * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def resnet20() -> tuple[nn.Module, tuple[int, int, int]]:
    return _resnet(3), SHAPE


def resnet56() -> tuple[nn.Module, tuple[int, int, int]]:
    return _resnet(9), SHAPE


def vit() -> tuple[nn.Module, tuple[int, int, int]]:
    """Touvron et al., arXiv:2012.12877, for 32 pixels: patches of 4, width 128, 6 blocks of 4 heads."""
    from sartor.models.torchvision_ops import define_missing_ops

    define_missing_ops()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4, num_classes=10), SHAPE


NETS = {"resnet20": resnet20, "resnet56": resnet56, "vit": vit}
