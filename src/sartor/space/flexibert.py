"""FlexiBERT's space of heterogeneous encoders: no two layers need be alike."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.space.choice import Choice
from sartor.space.space import Space

STACK = 3


def flexibert_space(
    *, widths: Sequence[int] = (128, 256), hidden: Sequence[int] = (512, 1024), heads: Sequence[int] = (2, 4)
) -> Space:
    """FlexiBERT (P048, arXiv:2205.11656 §3.1, Table 1): two or four ``layers``; of each its operation ``op{i}``, that
    operation's own parameter, ``heads{i}``, ``width{i}``, and one or three perceptrons on top of each other,
    ``stack{i}``, with ``hidden{i}.{j}`` channels each.

    Self-attention has a ``similarity{i}``, scaled dot products or weighted multiplicative; the linear ``transform{i}``
    is a discrete Fourier or cosine one; span-based dynamic convolution has a ``kernel{i}``.
    """
    choices = [Choice("layers", (2, 4))]
    for layer in range(4):
        when = None if layer < 2 else ("layers", (4,))
        op = f"op{layer}"
        choices += [
            Choice(op, ("transform", "convolution", "attention"), when),
            Choice(f"transform{layer}", ("dft", "dct"), (op, ("transform",))),
            Choice(f"kernel{layer}", (5, 9), (op, ("convolution",))),
            Choice(f"similarity{layer}", ("dot", "weighted"), (op, ("attention",))),
            Choice(f"heads{layer}", tuple(heads), when),
            Choice(f"width{layer}", tuple(widths), when),
            Choice(f"stack{layer}", (1, STACK), when),
            Choice(f"hidden{layer}.0", tuple(hidden), when),
        ]
        stacked = (f"stack{layer}", (STACK,))
        choices += [Choice(f"hidden{layer}.{place}", tuple(hidden), stacked) for place in range(1, STACK)]
    return Space(tuple(choices))
