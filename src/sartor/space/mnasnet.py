"""MnasNet's factorised hierarchical space: a block's layers agree, blocks differ."""

from __future__ import annotations

from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space

OPERATORS = ("dconv", "conv", "mbconv3", "mbconv6")
LAYERS = (1, 2, 3, 4, 3, 3, 1)
WIDTHS = ((8, 16, 24), (16, 24, 32), (24, 32, 40), (48, 64, 80), (72, 96, 112), (120, 160, 200), (240, 320, 400))
STRIDES = (1, 2, 2, 2, 1, 2, 1)


def mnasnet_space() -> Space:
    """MnasNet (P277, arXiv:1807.11626 §4.1): seven blocks; of block b, ``b{b}.layers``, ``b{b}.op``, ``b{b}.kernel``,
    ``b{b}.se`` (gate as wide as this share of the input), ``b{b}.skip`` and ``b{b}.width``.

    Layers are MobileNetV2's and one fewer or more; widths are three quarters, all and five quarters of its, in
    multiples of 8. So a block has 432 options, the paper's S, and the first and the last, of one layer each, may be
    gone: 288 options and one.
    Deviation: the fifth's largest width is 112, that of MnasNet-A1, and not 120, because the paper's own network would
    not be of the space it states. Expansions are two operators, without which S would be 324.
    """
    choices: list[Choice] = []
    for block, (layers, widths) in enumerate(zip(LAYERS, WIDTHS, strict=True)):
        name, counts = f"b{block}", (layers - 1, layers, layers + 1)
        there = (f"{name}.layers", tuple(n for n in counts if n)) if 0 in counts else None
        choices += [
            Choice(f"{name}.layers", counts),
            Choice(f"{name}.op", OPERATORS, there),
            Choice(f"{name}.kernel", (3, 5), there),
            Choice(f"{name}.se", (0.0, 0.25), there),
            Choice(f"{name}.skip", ("none", "pool", "identity"), there),
            Choice(f"{name}.width", widths, there),
        ]
    return Space(tuple(choices))


def mnasnet_a1() -> Arch:
    """MnasNet-A1 (Figure 7)."""
    blocks: list[tuple[Option, ...]] = [  # operator, kernel, gate, width, layers
        ("dconv", 3, 0.0, 16, 1),
        ("mbconv6", 3, 0.0, 24, 2),
        ("mbconv3", 5, 0.25, 40, 3),
        ("mbconv6", 3, 0.0, 80, 4),
        ("mbconv6", 3, 0.25, 112, 2),
        ("mbconv6", 5, 0.25, 160, 3),
        ("mbconv6", 3, 0.0, 320, 1),
    ]
    names = ("op", "kernel", "se", "width", "layers", "skip")
    rows = enumerate((*row, "identity") for row in blocks)
    return Arch({f"b{b}.{name}": option for b, row in rows for name, option in zip(names, row, strict=True)})
