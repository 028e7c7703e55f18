"""A small GPT, as the two programs that language models are deployed as: one reads a prompt, one makes the next token.

The second keeps what attention needs of earlier tokens, in memory of fixed size: each of its calls costs the same, so
that the file can be timed like any other.

Source: Radford et al., "Language models are unsupervised multitask learners" (2019), section 2.3 (GPT-2: normalisation
first, learned positions, tied output); Pope et al. (arXiv 2211.05102) section 2 for the two phases.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import InputError


class Block(nn.Module):
    """Attention and a feed-forward part on [n, t, width], each normalised before and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.projected = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def heads_of(self, x: Tensor) -> list[Tensor]:
        """Queries, keys and values, each [n, heads, t, width of a head]."""
        n, t, c = x.shape
        parts = self.projected(self.before(x)).split(c, dim=2)
        return [part.view(n, t, self.heads, c // self.heads).transpose(1, 2) for part in parts]

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``seen``: what attention found for each head, as :meth:`heads_of` has them."""
        n, t, c = x.shape
        x = x + self.mixed(seen.transpose(1, 2).reshape(n, t, c))
        return x + self.narrow(F.gelu(self.wide(self.between(x))))


class Gpt(nn.Module):
    """Tokens [n, t] to logits [n, t, words], t at most ``context``."""

    def __init__(self, words: int, *, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if min(words, context, width, depth, heads) < 1 or width % heads:
            raise InputError(f"a GPT of width {width} and {heads} heads cannot be: heads must divide a positive width")
        self.words, self.context, self.heads = words, context, heads
        self.tokens = nn.Embedding(words, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.last = nn.LayerNorm(width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def stack(self) -> list[Block]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def logits(self, x: Tensor) -> Tensor:
        """Tied: the output layer is the table of tokens."""
        return F.linear(self.last(x), self.tokens.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(tokens)[0]

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, and keys and values [depth, n, heads, t, width of a head]."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        keys, values = [], []
        for block in self.stack:
            q, k, v = block.heads_of(x)
            x = block(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
            keys.append(k)
            values.append(v)
        return self.logits(x), torch.stack(keys), torch.stack(values)


class Prefill(nn.Module):
    """Reads a prompt [1, t]: logits, and keys and values with room for ``context`` tokens."""

    def __init__(self, model: Gpt) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, keys, values = self.model.read(tokens)
        room = (0, 0, 0, self.model.context - tokens.shape[1])
        return logits, F.pad(keys, room), F.pad(values, room)


class Decode(nn.Module):
    """One token [1, 1] at ``position`` [1], from 0 to context - 1: its logits; keys and values with its own in them."""

    places: Tensor

    def __init__(self, model: Gpt) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("places", torch.arange(model.context))

    def forward(self, token: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        x = model.tokens(token) + model.positions(position)
        here = (self.places == position).view(1, 1, -1, 1)
        hidden = torch.where(self.places > position, float("-inf"), 0.0).view(1, 1, 1, -1)
        all_keys, all_values = [], []
        for i, block in enumerate(model.stack):
            q, k, v = block.heads_of(x)
            k, v = torch.where(here, k, keys[i]), torch.where(here, v, values[i])
            x = block(x, F.scaled_dot_product_attention(q, k, v, attn_mask=hidden))
            all_keys.append(k)
            all_values.append(v)
        return model.logits(x), torch.stack(all_keys), torch.stack(all_values)
