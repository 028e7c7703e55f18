"""``build_hat(arch)``: the translation transformer an arch of :func:`sartor.space.hat.hat_space` describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks.translation import DecoderLayer, EncoderLayer
from sartor.records import Option
from sartor.space.hat import encoder_depth


class Translation(nn.Module):
    """Tokens of the source [b, n] and of the target so far [b, m] → logits of each next token [b, m, vocabulary].

    One embedding serves both sides and the output; the narrower side has its first channels. Decoder layer i attends to
    the last ``spans[i]`` encoder layers, one after another along the sequence. Source tokens that are ``padding`` are
    not attended to; a source needs one that is not.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        encoder: Sequence[EncoderLayer],
        decoder: Sequence[DecoderLayer],
        spans: Sequence[int],
        widths: tuple[int, int],
        padding: int,
    ):
        super().__init__()
        self.embedding = embedding
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)
        self.spans = tuple(spans)
        self.widths = widths
        self.padding = padding

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        there = (source != self.padding)[:, None, None, :]
        memories = [self._embedded(source, self.widths[0])]
        for layer in self.encoder:
            memories.append(layer(memories[-1], there))
        x = self._embedded(target, self.widths[1])
        for layer, span in zip(self.decoder, self.spans, strict=True):
            last = memories[: -span - 1 : -1]
            x = layer(x, torch.cat(last, 1), torch.cat([there] * span, -1))
        return F.linear(x, self.embedding.weight[:, : self.widths[1]])

    def _embedded(self, tokens: Tensor, width: int) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return math.sqrt(width) * self.embedding(tokens)[..., :width] + sinusoids(places, width)


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of ``places`` [n] at wavelengths from 2π to 20,000π → [n, width] (arXiv:1706.03762 §3.5)."""
    rates = torch.exp(torch.arange(width // 2, device=places.device) * (-math.log(10_000) / max(1, width // 2 - 1)))
    angles = places[:, None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width % 2))


def build_hat(
    arch: Mapping[str, Option], *, vocabulary: int = 32768, inner: int = 512, padding: int = 1
) -> Translation:
    """The SubTransformer of ``arch`` with fresh weights (P276, arXiv:2005.14187 §3.1). ``inner``: channels of all heads
    together; ``vocabulary``: of source and target together; ``padding``: the token that pads sources.

    Deviations: positions are those of the arch's own widths, not the first channels of the widest one's; no dropout.
    """
    widths = int(arch["encoder.width"]), int(arch["decoder.width"])
    embedding = nn.Embedding(vocabulary, max(widths))
    nn.init.normal_(embedding.weight, std=max(widths) ** -0.5)

    def of(name: str) -> int:
        return int(arch[name])

    encoder = [
        EncoderLayer(widths[0], inner=inner, heads=of(f"encoder{i}.heads"), hidden=of(f"encoder{i}.hidden"))
        for i in range(encoder_depth(arch))
    ]
    layers = range(of("decoder.layers"))
    decoder = [
        DecoderLayer(
            widths[1],
            widths[0],
            inner=inner,
            heads=of(f"decoder{i}.heads"),
            cross_heads=of(f"decoder{i}.cross_heads"),
            hidden=of(f"decoder{i}.hidden"),
        )
        for i in layers
    ]
    return Translation(embedding, encoder, decoder, [of(f"decoder{i}.span") for i in layers], widths, padding)
