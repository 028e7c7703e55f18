"""Hidden covariance: how differently an untrained recurrent network remembers different texts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.models.recurrent import RecurrentCell
from sartor.search.proxies.jacobian import correlation_score
from sartor.search.proxies.replica import Inputs, call, finite, replica


def hidden_covariance(model: nn.Module, inputs: Inputs, targets: Tensor, *, layer: str | None = None) -> float:
    """−Σ (log(λ + k) + 1/(λ + k)), λ the eigenvalues of the correlations between the examples' last hidden states.

    Serianni & Kalita, P195 (arXiv:2306.00288 §3). The states are those of the module ``layer``: what it returned last
    [b, hidden], or a sequence [b, t, hidden], of which the last step is taken; without a name, of the first ``nn.RNN``,
    ``LSTM`` or ``GRU``, one of their cells or a ``RecurrentCell``. NaN where there is none. Raises InputError for a
    name that is not there.
    """
    with replica(model, train=False) as twin, torch.no_grad():
        modules = dict(twin.named_modules())
        if layer is not None and layer not in modules:
            raise InputError(f"the network has no module {layer!r}: it has {', '.join(n for n in modules if n)[:200]}")
        recurrent = (m for m in modules.values() if isinstance(m, (nn.RNNBase, nn.RNNCellBase, RecurrentCell)))
        chosen = modules[layer] if layer is not None else next(recurrent, None)
        if chosen is None:
            return math.nan
        held: list[Tensor] = []
        chosen.register_forward_hook(lambda module, _, out: held.append(_last(module, out)))
        call(twin, inputs)
    if not held:
        return math.nan
    return finite(correlation_score(held[-1].flatten(1).double().cpu().numpy()))


def _last(module: nn.Module, out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The hidden state after the last step [b, hidden]."""
    state = out[0] if isinstance(out, tuple) else out
    if isinstance(module, nn.RNNCellBase) or state.ndim == 2:
        return state
    return state[-1] if isinstance(module, nn.RNNBase) and not module.batch_first else state[:, -1]
