"""Spaces whose archs can be built: a space, what makes a network of an arch, and inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable

from sartor.models.buildable.buildable import Buildable
from sartor.models.buildable.cells import darts_problem, nasnet_problem, nb201_problem, recurrent_problem
from sartor.models.buildable.languages import einspace_problem, language_problem, motifs_problem, typed_problem
from sartor.models.buildable.published import (
    autoformer_problem,
    conv_problem,
    fbnet_problem,
    flexibert_problem,
    hat_problem,
    layers_problem,
    macro_problem,
    mnasnet_problem,
    ofa_problem,
    vit_problem,
)

__all__ = [
    "Buildable",
    "autoformer_problem",
    "conv_problem",
    "darts_problem",
    "einspace_problem",
    "fbnet_problem",
    "flexibert_problem",
    "hat_problem",
    "language_problem",
    "layers_problem",
    "macro_problem",
    "mnasnet_problem",
    "motifs_problem",
    "nasnet_problem",
    "nb201_problem",
    "ofa_problem",
    "recurrent_problem",
    "spaces",
    "typed_problem",
    "vit_problem",
]

spaces: dict[str, Callable[[], Buildable]] = {
    "conv": conv_problem,
    "layers": layers_problem,
    "vit": vit_problem,
    "ofa": ofa_problem,
    "fbnet": fbnet_problem,
    "mnasnet": mnasnet_problem,
    "macro": macro_problem,
    "autoformer": autoformer_problem,
    "hat": hat_problem,
    "flexibert": flexibert_problem,
    "nb201": nb201_problem,
    "darts": darts_problem,
    "nasnet": nasnet_problem,
    "recurrent": recurrent_problem,
    "einspace": einspace_problem,
    "motifs": motifs_problem,
    "language": language_problem,
    "typed": typed_problem,
}
"""Every space whose archs can be built, by name. A test gives each the suite in ``tests/contracts/buildable.py``."""
