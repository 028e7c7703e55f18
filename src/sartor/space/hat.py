"""HAT's space of translation transformers, and the averages that its latency tables describe them by."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import combinations_with_replacement, count

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space

ENCODER_LAYERS = 6
SPANS = (1, 2, 3)

TABLED_HIDDEN = (512, 1024, 2048, 3072)
TABLED_HEADS = (2, 4, 8)
"""What the latency tables sampled from, beyond what HAT searched."""

_PER_LAYER = {
    "encoder_ffn_embed_dim_avg": "encoder{}.hidden",
    "encoder_self_attention_heads_avg": "encoder{}.heads",
    "decoder_ffn_embed_dim_avg": "decoder{}.hidden",
    "decoder_self_attention_heads_avg": "decoder{}.heads",
    "decoder_ende_attention_heads_avg": "decoder{}.cross_heads",
    "decoder_arbitrary_ende_attn_avg": "decoder{}.span",
}
_WIDTHS = {"encoder_embed_dim": "encoder.width", "decoder_embed_dim": "decoder.width"}


def hat_space(
    *,
    widths: Sequence[int] = (512, 640),
    hidden: Sequence[int] = (1024, 2048, 3072),
    heads: Sequence[int] = (4, 8),
    decoder_layers: Sequence[int] = (1, 2, 3, 4, 5, 6),
    encoder_layers: int = ENCODER_LAYERS,
) -> Space:
    """HAT (P276, arXiv:2005.14187 §3.1, "space0" of its WMT tasks): an encoder of six layers and a decoder of one to
    six. Embedding ``encoder.width`` and ``decoder.width``, ``decoder.layers``; of each layer ``hidden`` channels of the
    perceptron and ``heads``; of the decoder's also ``cross_heads``, and ``span``, the last encoder layers that are
    attended to (arbitrary encoder-decoder attention).
    """
    choices = [Choice("encoder.width", tuple(widths))]
    for layer in range(encoder_layers):
        choices.append(Choice(f"encoder{layer}.hidden", tuple(hidden)))
        choices.append(Choice(f"encoder{layer}.heads", tuple(heads)))
    choices += [Choice("decoder.width", tuple(widths)), Choice("decoder.layers", tuple(decoder_layers))]
    for layer in range(max(decoder_layers)):
        deeper = tuple(n for n in decoder_layers if n > layer)
        when = None if len(deeper) == len(decoder_layers) else ("decoder.layers", deeper)
        choices.append(Choice(f"decoder{layer}.hidden", tuple(hidden), when))
        choices.append(Choice(f"decoder{layer}.heads", tuple(heads), when))
        choices.append(Choice(f"decoder{layer}.cross_heads", tuple(heads), when))
        choices.append(Choice(f"decoder{layer}.span", tuple(s for s in SPANS if s <= encoder_layers), when))
    return Space(tuple(choices))


def encoder_depth(arch: Container[str]) -> int:
    """How many layers the encoder of ``arch`` has: no choice, but the names of its choices tell."""
    return next(depth for depth in count() if f"encoder{depth}.heads" not in arch)


def averages(arch: Mapping[str, Option]) -> dict[str, float]:
    """The ten numbers that HAT's latency predictor sees (§3.3), named as in its tables: widths, depths, means."""
    depths = {"encoder": encoder_depth(arch), "decoder": int(arch["decoder.layers"])}
    found = {name: float(arch[choice]) for name, choice in _WIDTHS.items()}
    found |= {f"{side}_layer_num": float(depth) for side, depth in depths.items()}
    for name, choice in _PER_LAYER.items():
        depth = depths[name.split("_")[0]]
        found[name] = sum(float(arch[choice.format(i)]) for i in range(depth)) / depth
    return found


def with_averages(space: Space, row: Mapping[str, float]) -> Arch:
    """An arch of ``space`` that has these averages (to a thousandth; the order of layers is lost in them: larger ones
    come last). Raises InputError where there is none."""
    depths = {side: round(row[f"{side}_layer_num"]) for side in ("encoder", "decoder")}
    options = {choice.name: choice.options for choice in space.choices}
    if depths["encoder"] != encoder_depth(options):
        raise InputError(f"an encoder has {encoder_depth(options)} layers, not {depths['encoder']}")
    held: dict[str, Option] = {"decoder.layers": depths["decoder"]}
    held |= {choice: round(row[name]) for name, choice in _WIDTHS.items()}
    for name, choice in _PER_LAYER.items():
        depth = depths[name.split("_")[0]]
        numbers = [int(option) for option in options[choice.format(0)]]
        found = [c for c in combinations_with_replacement(numbers, depth) if abs(sum(c) / depth - row[name]) < 1e-3]
        if not found:
            raise InputError(f"no {depth} of {numbers} have the mean {row[name]} ({name})")
        held |= {choice.format(i): option for i, option in enumerate(found[0])}
    return space.canonical(held)
