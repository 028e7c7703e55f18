"""A predictor that reads: an arch's text, or that of its exported graph, whatever space it is of.

Qin et al., ONNX-Net, arXiv:2510.04938: a network is written down, operator by operator with parameters and inputs, and
one model of text predicts accuracies of all spaces. Deviation: the model is a Gaussian process on n-grams of words,
where the paper fine-tunes a language model: no weights are downloaded here. N-grams stay within a line and the next, so
what feeds what is seen only of neighbours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.light import GaussianProcess, fit_gaussian_process
from sartor.predict.operators import operators_of
from sartor.predict.predictor import Floats, checked, known, unfitted
from sartor.predict.scores import NormalScores
from sartor.records import Arch
from sartor.space.graph import ArchGraph
from sartor.space.space import Space

if TYPE_CHECKING:
    from onnx import ModelProto

WORDS = re.compile(r"[^\s,()]+")
LONGEST = 3
"""Words in a row that are counted together."""
FEWEST_TEXTS = 2
"""A run of words that stands in fewer texts teaches nothing of others."""


def graph_text(graph: ArchGraph) -> str:
    """One line a node, without input and output: its place, label, and the labels that lead to it."""
    lines = []
    for node in range(1, len(graph) - 1):
        before = [graph.labels[start] for start, to in graph.links if to == node]
        after = [graph.labels[to] for start, to in graph.links if start == node]
        lines.append(f"{graph.places[node]} {graph.labels[node]} ({', '.join(before)}) to ({', '.join(after)})")
    return "\n".join(lines)


def onnx_text(model: ModelProto) -> str:
    """One line an operator of an exported model: its name, attributes, shapes of its weights and of what it makes, and
    the operators that lead to it, such as ``Conv(group=1, kernel_shape=3x3, strides=2x2, 32x16x3x3) 32x8x8 (Relu)``.
    What only works out shapes is left out: see :mod:`sartor.predict.operators`."""
    operators = operators_of(model)
    lines = []
    for operator in operators:
        held = [f"{name}={_joined(value)}" for name, value in operator.attributes.items()]
        held += map(_joined, operator.weights)
        before = [operators[place].name if place >= 0 else "input" for place in operator.before]
        made = f" {_joined(operator.made)} " if operator.made else ""
        lines.append(f"{operator.name}({', '.join(held)}){made}({', '.join(before)})")
    return "\n".join(lines)


def _joined(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def ngrams(text: str) -> Counter[str]:
    """How often each run of up to LONGEST words occurs within a line, and each first word with the next line's."""
    lines = [words for words in map(WORDS.findall, text.splitlines()) if words]
    found: Counter[str] = Counter()
    for words in lines:
        for n in range(1, LONGEST + 1):
            found.update(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    found.update(f"{a[0]} / {b[0]}" for a, b in pairwise(lines))
    return found


@dataclass(frozen=True)
class Reader:
    """A fitted model of texts, of one family or of several."""

    columns: dict[str, int]
    process: GaussianProcess

    def __call__(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Mean and deviation ``[n]`` of the normal score within a text's family."""
        return self.process.predict(_counted(map(ngrams, texts), len(texts), self.columns))


def fit_reader(families: Sequence[tuple[Sequence[str], Floats]]) -> Reader:
    """A reader of ``families``, each texts and values ``[n]``. Their values become normal scores family by family: what
    is good is good for its family. Raises InputError where a family is empty or its lengths differ."""
    for texts, values in families:
        if len(texts) != len(values) or not len(texts):
            raise InputError(f"a family needs texts with a value each, not {len(texts)} texts and {len(values)} values")
    counts = [ngrams(text) for texts, _ in families for text in texts]
    spread = Counter(gram for count in counts for gram in count)
    enough = min(FEWEST_TEXTS, len(counts))
    columns = {gram: i for i, gram in enumerate(sorted(g for g, n in spread.items() if n >= enough))}
    scores = np.concatenate([NormalScores.of(np.asarray(values, dtype=np.float64))(values) for _, values in families])
    return Reader(columns, fit_gaussian_process(_counted(counts, len(counts), columns), scores))


def _counted(counts: Sequence[Counter[str]] | map[Counter[str]], n: int, columns: dict[str, int]) -> Floats:
    """Logarithms of counts: the tenth convolution adds less than the first."""
    found = np.zeros((n, max(1, len(columns))))
    for i, count in enumerate(counts):
        for gram, times in count.items():
            if (column := columns.get(gram)) is not None:
                found[i, column] = times
    return np.log1p(found)


@dataclass
class Text:
    """See ``predictor.ArchPredictor``. ``text`` writes an arch down (``onnx_text`` of its export, say), else its graph
    is written; ``others`` are texts and values of other spaces, written by the same means, to learn of beside.
    ``seed`` is not used."""

    space: Space
    seed: int = 0
    text: Callable[[Arch], str] | None = None
    others: Sequence[tuple[Sequence[str], Floats]] = ()
    _fitted: tuple[Reader, NormalScores] | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Text:
        y = checked(self.space, archs, values)
        self._fitted = fit_reader([(self._texts(archs), y), *self.others]), NormalScores.of(y)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("text")
        known(self.space, archs)
        reader, scores = self._fitted
        return scores.inverse(*reader(self._texts(archs)))

    def _texts(self, archs: Sequence[Arch]) -> list[str]:
        write = self.text or (lambda arch: graph_text(self.space.graph(arch)))
        return [write(arch) for arch in archs]
