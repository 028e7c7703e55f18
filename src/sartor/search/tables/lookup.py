"""Latency tables: what an arch takes as the sum of what each of its parts takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.search.tables.known import data_folder
from sartor.space.macro import FBNET_LAYERS, numbered

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
                    raise InputError(f"the table has no {name} of {arch[name]!r}: it has {', '.join(map(repr, row))}")
                total += row[arch[name]]
        return total

    def evaluate(self, arch: Arch) -> dict[str, float]:
        """An evaluator: ``{metric: cost}``."""
        return {self.metric: self.of(arch)}

    def __call__(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """The costs ``[n]`` of many, as ``linas`` takes what it need not predict."""
        return np.array([self.of(arch) for arch in archs], dtype=np.float64)


def fbnet_cpu(data: str | Path | None = None) -> Lookup:
    """``latency_ms`` of archs of :func:`sartor.space.macro.fbnet_space`, from ``nas/fbnet_cpu_lut.txt`` in the folder
    ``data`` ($SARTOR_DATA where it is not given): a line of microseconds for each of the 22 layers, measured one by one.

    Stem, last convolution and classifier are not in it. Raises InputError where the file is not there, or not such.
    """
    file = data_folder(data) / "fbnet_cpu_lut.txt"
    fix = "give the folder that holds nas/fbnet_cpu_lut.txt"
    try:
        header, *lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [[float(text) / 1000 for text in line] for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file} ({error}): {fix}") from error
    if len(rows) != sum(FBNET_LAYERS) or any(len(row) != len(header) or min(row) <= 0 for row in rows):
        raise InputError(f"{file} is no table of {sum(FBNET_LAYERS)} layers by {len(header)} operators: {fix}")
    operators = [_PRINTED.get(name, name.removeprefix("ir_")) for name in header]
    parts = numbered("layer", [dict(zip(operators, row, strict=True)) for row in rows])
    return Lookup("latency_ms", parts)  # type: ignore[arg-type]
