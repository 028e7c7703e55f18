"""Latency tables: what an arch takes as the sum of what each of its parts takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sartor.errors import InputError
from sartor.predict.predictor import as_numbers
from sartor.records import Arch, Option
from sartor.search.tables.known import data_folder
from sartor.space.macro import FBNET_LAYERS, numbered
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor

_PRINTED = {"ir_k3_s2": "k3_e1_g2", "ir_k5_s2": "k5_e1_g2"}
"""FBNet's code calls groups of two "s2", for the shuffle."""


@dataclass(frozen=True)
class Lookup:
    """``parts``: choice → option → cost; ``base``: what is there in every arch. Choices without a row cost nothing.

    A sum over layers, as FBNet (arXiv:1812.03443 §3.3) and ProxylessNAS (arXiv:1812.00332 §4) estimate latency: exact
    for what adds up, such as MACs, and blind to what operators do to each other.
    """

    metric: str
    parts: Mapping[str, Mapping[Option, float]]
    base: float = 0.0

    def of(self, arch: Mapping[str, Option]) -> float:
        """The cost of ``arch``. Raises InputError for an option that its choice's row does not have."""
        total = self.base
        for name, row in self.parts.items():
            if name in arch:
                if arch[name] not in row:
                    known = ", ".join(map(repr, row))
                    raise InputError(f"the table has no {name} of {arch[name]!r}: choose from {known}")
                total += row[arch[name]]
        return total

    def evaluate(self, arch: Arch) -> dict[str, float]:
        """An evaluator: ``{metric: cost}``."""
        return {self.metric: self.of(arch)}

    def __call__(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """The costs ``[n]`` of many, as ``linas`` takes what it need not predict."""
        return np.array([self.of(arch) for arch in archs], dtype=np.float64)

    def expected(self, space: Space, probabilities: Mapping[str, Tensor]) -> Tensor:
        """The mean cost ``[...]`` of archs of ``space`` whose options are drawn with ``probabilities`` (choice →
        ``[..., options]`` that sum to one), differentiable in them: what a differentiable search adds to its loss
        (ProxylessNAS §4.1; FBNet §3.3). A conditional choice costs as much as it is likely to be there.

        Raises InputError where a choice has no probabilities, another number of them, or an option no row.
        """
        there: dict[str, Tensor] = {}
        total: Tensor | None = None
        for choice in space.choices:
            given = probabilities.get(choice.name)
            if given is None or given.ndim == 0 or given.shape[-1] != len(choice.options):
                raise InputError(f"{choice.name} needs {len(choice.options)} probabilities, one of each option")
            held = given
            if choice.when is not None:
                above, options = choice.when
                parent = next(c for c in space.choices if c.name == above)
                places = [parent.options.index(option) for option in options]
                held = given * there[above][..., places].sum(dim=-1, keepdim=True)
            there[choice.name] = held
            row = self.parts.get(choice.name)
            if row is None:
                continue
            if unknown := [option for option in choice.options if option not in row]:
                raise InputError(f"the table has no {choice.name} of {unknown[0]!r}: measure it, or leave it out")
            cost = (held * held.new_tensor([row[option] for option in choice.options])).sum(dim=-1)
            total = cost if total is None else total + cost
        if total is None:
            raise InputError("the table has no row of any choice of the space: it is of another space")
        return total + self.base


def fit_lookup(space: Space, archs: Sequence[Arch], costs: ArrayLike, metric: str = "latency_ms") -> Lookup:
    """The table of ``space`` whose sums come nearest to the ``costs`` ``[n]`` of ``archs``, by least squares.

    What no arch tells apart is shared out evenly, so single entries mean something only beside others of their choice.
    Raises InputError where archs and costs do not match, are none, or are not of the space, or a cost is not finite.
    """
    values = as_numbers(costs, "a table")
    if values.shape != (len(archs),) or not len(archs) or not np.isfinite(values).all():
        raise InputError(f"a table is fitted to a finite cost of each arch: {len(archs)} archs, costs {values.shape}")
    space.check(archs)
    held = [(choice.name, option) for choice in space.choices for option in choice.options]
    rows = np.array([[arch.get(name) == option for name, option in held] for arch in archs], dtype=np.float64)
    middle, typical = rows.mean(axis=0), float(values.mean())
    weights = np.linalg.lstsq(rows - middle, values - typical, rcond=None)[0]
    parts: dict[str, dict[Option, float]] = {choice.name: {} for choice in space.choices}
    for (name, option), weight in zip(held, weights, strict=True):
        parts[name][option] = float(weight)
    return Lookup(metric, parts, typical - float(middle @ weights))


def fbnet_cpu(data: str | Path | None = None) -> Lookup:
    """``latency_ms`` of archs of :func:`sartor.space.macro.fbnet_space`, from ``nas/fbnet_cpu_lut.txt`` in the folder
    ``data`` ($SARTOR_DATA where it is not given): a line of microseconds for each of the 22 layers, measured one by
    one. Stem, last convolution and classifier are not in it. Raises InputError where there is no such file.
    """
    file = data_folder(data) / "fbnet_cpu_lut.txt"
    fix = "give the folder that holds nas/fbnet_cpu_lut.txt"
    try:
        header, *lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [[float(text) / 1000 for text in line] for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file} ({error}): {fix}") from error
    if len(rows) != sum(FBNET_LAYERS) or any(
        len(row) != len(set(header)) or not all(0 < value < math.inf for value in row) for row in rows
    ):
        raise InputError(f"{file} is no table of {sum(FBNET_LAYERS)} layers by {len(header)} operators: {fix}")
    operators = [_PRINTED.get(name, name.removeprefix("ir_")) for name in header]
    parts = numbered("layer", [dict(zip(operators, row, strict=True)) for row in rows])
    return Lookup("latency_ms", parts)  # type: ignore[arg-type]
