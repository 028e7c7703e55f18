"""Sparse weights: single weights that are zero, chosen before the training or a few at a time while it goes on.

Nothing gets faster by single zeros on the runtimes Sartor exports to; files that are compressed get smaller, and other
methods start from them (:mod:`sartor.compress.precrop`). For whole channels on the same schedule see
``sartor.prune(steps=…, schedule="cubic")`` and :class:`sartor.compress.once.DHSPG`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph.groups import matches
from sartor.train.loop import Step

MASK = "sparse_mask"
"""Name of a mask's buffer, behind its parameter's: ``weight_sparse_mask``."""


class Masks:
    """Which weights of ``module`` may be other than zero, as buffers of it, so that a checkpoint has them.

    ``masks`` by the names of the parameters; where there are none, all of every matrix and kernel but those of the
    layers that ``keep`` names. Raises InputError where there is nothing to mask, and for masks of other shapes.
    """

    def __init__(self, module: nn.Module, masks: Mapping[str, Tensor] | None = None, *, keep: Sequence[str] = ()):
        parameters = dict(module.named_parameters())  # tied ones once
        for pattern in keep:
            if not any(matches(name, [pattern]) for name in parameters):
                raise InputError(f"no layer of {type(module).__name__} is called {pattern!r}")
        if masks is None:
            masks = {n: torch.ones_like(p) for n, p in parameters.items() if p.dim() > 1 and not matches(n, keep)}
        if not masks:
            raise InputError("no matrices or kernels to make sparse: see keep")
        self._held: dict[str, tuple[nn.Module, str]] = {}
        for path, mask in masks.items():
            if path not in parameters or parameters[path].shape != mask.shape:
                has = f"has shape {list(parameters[path].shape)}" if path in parameters else "is no parameter"
                raise InputError(f"a mask of shape {list(mask.shape)} is given for {path}, which {has}")
            owner, _, name = path.rpartition(".")
            self._held[path] = module.get_submodule(owner), name
            self._held[path][0].register_buffer(f"{name}_{MASK}", mask.bool().to(parameters[path].device))

    def __iter__(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Parameters and their masks, as they are now."""
        for layer, name in self._held.values():
            yield layer.get_parameter(name), layer.get_buffer(f"{name}_{MASK}")

    @torch.no_grad()
    def apply(self) -> None:
        """Zero what is masked."""
        for parameter, mask in self:
            parameter.mul_(mask)

    def step(self, inner: Step) -> Step:
        """``inner``, the step of an ordinary training of the module, on weights of which the masked are zero and get
        no gradient."""

        def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
            self.apply()
            loss = inner(images, labels, progress, index)
            for parameter, mask in self:
                if parameter.grad is not None:
                    parameter.grad.mul_(mask)
            return loss

        return step

    def finish(self) -> dict[str, float]:
        """Zero what is masked for good, remove the masks, and return the share of zeros of each tensor."""
        self.apply()
        shares = {}
        for path, (layer, name) in self._held.items():
            shares[path] = float((layer.get_parameter(name) == 0).double().mean())
            delattr(layer, f"{name}_{MASK}")
        return shares


def gradual_sparsity(progress: float, final: float, *, initial: float = 0.0, start: float, end: float) -> float:
    """The share of weights that are zero at ``progress``: s_f + (s_i − s_f)(1 − t)³, t from 0 at ``start`` to 1 at
    ``end`` (arXiv:1710.01878 §3, equation 1)."""
    t = min(1.0, max(0.0, (progress - start) / max(1e-12, end - start)))
    return final + (initial - final) * (1 - t) ** 3


class GradualMagnitude:
    """Zeroes the smallest weights of ``module``'s matrices and kernels while it trains with ``step(inner)``, until a
    share ``final`` of them is zero: "To prune, or not to prune" (P364, arXiv:1710.01878 §3).

    From ``start`` to ``end`` of the training's progress masks are taken anew every ``every`` steps. ``ranking``:
    ``layer`` gives each tensor the same share, as the paper does; ``global`` compares all weights. ``keep``: names of
    layers that stay dense. Raises InputError for shares that make no sense.
    """

    def __init__(
        self,
        module: nn.Module,
        final: float = 0.9,
        *,
        initial: float = 0.0,
        start: float = 0.1,
        end: float = 0.6,
        every: int = 10,
        ranking: Literal["layer", "global"] = "layer",
        keep: Sequence[str] = (),
    ):
        if not 0 <= initial <= final < 1:
            raise InputError(f"0 ≤ initial ≤ final < 1, not {initial!r}, {final!r}")
        if not 0 <= start < end <= 1 or every < 1:
            raise InputError(f"0 ≤ start < end ≤ 1 and masks every step or more, not {start!r}, {end!r}, {every!r}")
        if ranking not in ("layer", "global"):
            raise InputError(f"ranking is 'layer' or 'global', not {ranking!r}")
        self.masks = Masks(module, keep=keep)
        self._span = {"final": final, "initial": initial, "start": start, "end": end}
        self._every, self._ranking = every, ranking

    def step(self, inner: Step) -> Step:
        """``inner``, the step of an ordinary training of the module, on ever sparser weights."""
        masked = self.masks.step(inner)

        def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
            if index % self._every == 0 and progress >= self._span["start"]:
                self._refresh(gradual_sparsity(progress, **self._span))
            return masked(images, labels, progress, index)

        return step

    def finish(self) -> dict[str, float]:
        """As :meth:`Masks.finish`, with exactly the final share of zeros."""
        self._refresh(self._span["final"])
        return self.masks.finish()

    @torch.no_grad()
    def _refresh(self, sparsity: float) -> None:
        """Masks of the largest weights. What was masked has size 0: it stays so, as the share only grows."""
        pairs = list(self.masks)
        for ranked in [pairs] if self._ranking == "global" else [[pair] for pair in pairs]:
            sizes = torch.cat([(parameter * mask).abs().flatten() for parameter, mask in ranked])
            kept = torch.ones_like(sizes, dtype=torch.bool)
            kept[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = False
            for (parameter, mask), flat in zip(ranked, kept.split([p.numel() for p, _ in ranked]), strict=True):
                mask.copy_(flat.view_as(parameter))
