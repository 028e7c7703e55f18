"""Hidden covariance: how many different things an untrained recurrent network remembers of texts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.models.recurrent import RecurrentCell
from sartor.search.proxies.jacobian import correlation_score
from sartor.search.proxies.replica import Inputs, call, finite, replica


def hidden_covariance(model: nn.Module, inputs: Inputs, targets: Tensor, *, layer: str | None = None) -> float:
    """−Σ (log(λ + k) + 1/(λ + k)), λ the eigenvalues of the correlations between hidden units, over all examples and
    steps: nearly minus their number where no two units hold the same, much less where some do.

    Serianni & Kalita, P195 (arXiv:2306.00288 §3), as the authors' code has it; of networks with as many units. The
    states are those of the module ``layer``: what it returns [b, t, hidden] in its last call, or [b, hidden] in each
    call; without a name, of the first ``nn.RNN``, ``LSTM`` or ``GRU``, one of their cells or a ``RecurrentCell``. NaN
    where there is none, or a unit is constant. Raises InputError for a name that is not there.
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
        chosen.register_forward_hook(lambda _, __, out: held.append(out[0] if isinstance(out, tuple) else out))
        call(twin, inputs)
    if not held:
        return math.nan
    states = torch.cat(held) if held[-1].ndim == 2 else held[-1]  # a cell is called once a step
    return finite(correlation_score(states.flatten(0, -2).T.double().cpu().numpy()))
