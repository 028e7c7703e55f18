"""A language model around any module that mixes tokens: what is compared is that module."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import InputError


class Around(nn.Module):
    """A mixer and a feed-forward part on [n, t, width], each normalised before and added to what came in."""

    def __init__(self, mixer: nn.Module, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.mixer = mixer
        self.between = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.before(x))
        return x + self.narrow(F.gelu(self.wide(self.between(x))))


class MixingModel(nn.Module):
    """Tokens [n, t] to logits [n, t, words]: ``depth`` of what ``block(width)`` makes, which takes and gives
    [n, t, width], between an embedding and an output layer that share their weights.

    It has no positions: a mixer that needs them brings its own, so that it can be of any length. Otherwise as
    :class:`sartor.models.gpt.Gpt`.
    """

    def __init__(self, words: int, *, width: int, depth: int, block: Callable[[int], nn.Module]) -> None:
        super().__init__()
        if min(words, width, depth) < 1:
            raise InputError(f"a language model needs words, width and depth, not {words}, {width} and {depth}")
        self.tokens = nn.Embedding(words, width)
        self.blocks = nn.Sequential(*(block(width) for _ in range(depth)))
        self.last = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.last(self.blocks(self.tokens(tokens))), self.tokens.weight)
