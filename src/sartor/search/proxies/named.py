"""Every proxy by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from sartor.errors import InputError
from sartor.search.proxies.asvit import length_distortion, ntk_condition
from sartor.search.proxies.deepmad import deepmad
from sartor.search.proxies.gradient import fisher, grad_norm, grasp, plain, snip
from sartor.search.proxies.jacobian import epe_nas, jacob_cov
from sartor.search.proxies.naswot import naswot
from sartor.search.proxies.recurrent import hidden_covariance
from sartor.search.proxies.replica import Inputs
from sartor.search.proxies.size import l2_norm, macs, params
from sartor.search.proxies.synflow import synflow
from sartor.search.proxies.zen import zen

Proxy: TypeAlias = Callable[[nn.Module, Inputs, Tensor], float]
"""``(model, inputs, targets) -> float``: more is better, NaN where there is nothing to tell. It changes no model."""

proxies: dict[str, Proxy] = {
    "params": params,
    "macs": macs,
    "l2_norm": l2_norm,
    "grad_norm": grad_norm,
    "snip": snip,
    "plain": plain,
    "grasp": grasp,
    "fisher": fisher,
    "synflow": synflow,
    "jacob_cov": jacob_cov,
    "epe_nas": epe_nas,
    "naswot": naswot,
    "zen": zen,
    "deepmad": deepmad,
    "length_distortion": length_distortion,
    "ntk_condition": ntk_condition,
    "hidden_covariance": hidden_covariance,
}


def proxy_of(name: str) -> Proxy:
    """The proxy called ``name``. Raises InputError with those there are."""
    if name not in proxies:
        raise InputError(f"unknown proxy {name!r}: choose from {', '.join(proxies)}")
    return proxies[name]
