"""DeepMAD: a convolutional network's entropy, and how much of it gets through, in closed form.

Shen et al., P071 (arXiv:2303.02165 §3). Numbers of layers, channels and kernels alone: no weights, no data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sartor.search.proxies.replica import Inputs, call, finite, replica

STAGE_WEIGHTS = (1.0, 8.0)
"""What a stage's entropy counts: every one but the last, and the last (the paper's 1, 1, 1, 1, 8)."""


@dataclass(frozen=True)
class Layer:
    """A convolution: what one output is summed over is ``channels · kernel_area / groups``; ``out_channels`` of
    ``side`` · ``side`` pixels come out."""

    channels: int
    kernel_area: int
    groups: int
    out_channels: int
    side: float

    @property
    def width(self) -> float:
        """c k² / g, the fan-in."""
        return self.channels * self.kernel_area / self.groups


def deepmad(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """The weighted entropy of the network's stages: see :func:`entropy`. NaN without a convolution."""
    layers = convolutions(model, inputs)
    return finite(entropy(layers)) if layers else math.nan


def entropy(layers: Sequence[Layer]) -> float:
    """Σ α_m H_m over stages (runs of layers with one side), H_m = log(side² · out_channels) · Σ log(c k²/g), the sum
    over all layers up to the stage's end (§3); α is 1 and, of the last stage, 8.

    Deviation: the β · exp(Var(depths)) that the paper's program takes off shapes what is designed and is no part of a
    given network's score; see ``design``.
    """
    stages: list[float] = []
    passed, side = 0.0, None
    for layer in layers:
        passed += math.log(layer.width)
        found = math.log(layer.side**2 * layer.out_channels) * passed
        if layer.side == side:
            stages[-1] = found
        else:
            stages.append(found)
        side = layer.side
    early, last = STAGE_WEIGHTS
    return early * sum(stages[:-1]) + last * stages[-1] if stages else 0.0


def effectiveness(layers: Sequence[Layer]) -> float:
    """ρ = L / w̄, w̄ the geometric mean of the fan-ins: the larger, the less of the entropy a training can make use of
    (§3). NaN without a layer."""
    if not layers:
        return math.nan
    mean = math.exp(sum(math.log(layer.width) for layer in layers) / len(layers))
    return len(layers) / mean


@torch.no_grad()
def convolutions(model: nn.Module, inputs: Inputs) -> list[Layer]:
    """The convolutions of one example's pass, in order. Deviations: those beside each other (branches, shortcuts) count
    as if they came one after another; those on one pixel (squeeze-excite) do not count."""
    found: list[Layer] = []

    def note(layer: nn.Module, _: object, out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        side = math.sqrt(out.shape[-2] * out.shape[-1])
        if side > 1:
            area = math.prod(layer.kernel_size)
            found.append(Layer(layer.in_channels, area, layer.groups, layer.out_channels, side))

    one = tuple(x[:1] for x in inputs) if isinstance(inputs, tuple) else inputs[:1]
    with replica(model, train=False) as twin:
        for layer in twin.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(note)
        call(twin, one)
    return found
