"""The proxies to beat: how large a network is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sartor.search.proxies.replica import Inputs, call, finite, matrices, replica


def params(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """The number of parameters."""
    return float(sum(parameter.numel() for parameter in model.parameters()))


def macs(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """Multiply-accumulates of one example: convolutions, matrix products, attention. Recurrent layers are run step by
    step, where they are products too. What a budget is held to is ``sartor.measure.counts``."""
    from torch.utils.flop_counter import FlopCounterMode

    one = tuple(x[:1] for x in inputs) if isinstance(inputs, tuple) else inputs[:1]
    with replica(model, train=False) as twin, torch.no_grad(), _step_by_step(twin):
        counter = FlopCounterMode(display=False)
        with counter:
            call(twin, one)
    return float(counter.get_total_flops() // 2)


@contextmanager
def _step_by_step(model: nn.Module) -> Iterator[None]:
    """Recurrent layers as products: the fused kernel of CPUs is one operator, which counts as nothing."""
    if not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TF32, which has no part in this
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def l2_norm(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """The sum of the Euclidean norms of the weights: size, by another name, at initialisation. arXiv:2210.03230 §2."""
    with replica(model, train=True) as twin:
        return finite(sum(float(w.detach().norm()) for w in matrices(twin)))
