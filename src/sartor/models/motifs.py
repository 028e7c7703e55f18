"""Networks of :func:`sartor.space.motifs.motifs`. Liu et al., arXiv:1711.00436 §2, §4.1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks import ConvNormAct
from sartor.records import Arch
from sartor.space.motifs import Motifs


class Motif(nn.Module):
    """A graph ``[b, c_in, h, w] → [b, channels, h, w]``: a node is what comes over its edges, concatenated, and a 1x1
    convolution leads from the last to ``channels``. Nodes come after what they hear."""

    def __init__(self, edges: dict[tuple[int, int], nn.Module], widths: dict[int, int], channels: int):
        super().__init__()
        self.edges = nn.ModuleDict({f"{start}>{to}": edge for (start, to), edge in edges.items()})
        self.ends = sorted(edges, key=lambda edge: (edge[1], edge[0]))
        self.last = max(to for _, to in edges)
        self.reduce = ConvNormAct(widths[self.last], channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        heard: dict[int, list[Tensor]] = {0: [x]}
        for start, to in self.ends:
            node = torch.cat(heard[start], 1) if len(heard[start]) > 1 else heard[start][0]
            heard.setdefault(to, []).append(self.edges[f"{start}>{to}"](node))
        return self.reduce(torch.cat(heard[self.last], 1))


class MotifNet(nn.Module):
    """Stem, cells with reductions between them, global average pool, linear classifier."""

    def __init__(self, layers: nn.Sequential, classifier: nn.Linear):
        super().__init__()
        self.layers = layers
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.layers(x), 1).flatten(1))


def build_motifs(
    space: Motifs, arch: Arch, *, channels: int = 3, classes: int = 10, width: int = 16, cells: int = 2
) -> MotifNet:
    """The network of ``arch``: a stem of ``width`` channels and ``cells`` cells, before each but the first of which a
    separable convolution halves the image and doubles the width. Every use of a motif has weights of its own.

    Raises InputError where ``arch`` is not of ``space``.
    """
    arch = space.canonical(arch)
    layers: list[nn.Module] = [ConvNormAct(channels, width, 3)]
    for number in range(cells):
        if number:
            layers.append(_separable(width, 2 * width, stride=2))
            width *= 2
        layers.append(_motif(space, arch, space.top, width, width))
    return MotifNet(nn.Sequential(*layers), nn.Linear(width, classes))


def _motif(space: Motifs, arch: Arch, name: str, c_in: int, channels: int) -> Motif:
    widths = {0: c_in}
    edges: dict[tuple[int, int], nn.Module] = {}
    graph = space.links(arch, name)
    for start, to in sorted(graph, key=lambda edge: (edge[1], edge[0])):
        held = graph[start, to]
        if "." in held:
            edges[start, to], out = _motif(space, arch, held, widths[start], channels), channels
        else:
            edges[start, to], out = _primitive(held, widths[start], channels)
        widths[to] = widths.get(to, 0) + out
    return Motif(edges, widths, channels)


def _primitive(name: str, c_in: int, channels: int) -> tuple[nn.Module, int]:
    """The operation, and how many channels come out of it: convolutions that mix channels lead to ``channels``."""
    if name == "conv1":
        return ConvNormAct(c_in, channels, 1), channels
    if name == "separable3":
        return _separable(c_in, channels), channels
    if name == "depthwise3":
        return ConvNormAct(c_in, c_in, 3, groups=c_in), c_in
    if name == "max_pool3":
        return nn.MaxPool2d(3, 1, 1), c_in
    if name == "avg_pool3":
        return nn.AvgPool2d(3, 1, 1), c_in
    return nn.Identity(), c_in


def _separable(c_in: int, c_out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False), ConvNormAct(c_in, c_out, 1))
