"""What of a unit decides its time on any device, as numbers: how alike two units are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from sartor.measure.units.split import Unit

NAMES = (
    "macs",
    "read",
    "written",
    "weights",
    "between",
    "channels_in",
    "channels_out",
    "pixels_in",
    "pixels_out",
    "kernel",
    "group_channels",
    "followers",
)
"""Logarithms of: multiply-accumulates; bytes read, written, of weights, and passed on inside; the anchor's channels and
positions; entries of its kernel; channels of one of its groups; operators behind it."""


def features(unit: Unit) -> tuple[float, ...]:
    """As many numbers as ``NAMES``."""
    node = next((n for n in unit.nodes if n.op_type == unit.anchor), unit.nodes[0])
    shape_in = _shape(unit, node.input[0]) if node.input else ()
    shape_out = _shape(unit, node.output[0])
    # The weight of a convolution is [out, in / groups, kernel...]: what follows the first two is the kernel.
    held = {n.output[0]: n.input[0] for n in unit.nodes if n.op_type == "DequantizeLinear" and n.input[0] in unit.held}
    stored = (held.get(name, name) for name in node.input[1:])
    weight = next((tuple(unit.held[name].dims) for name in stored if name in unit.held), ())
    convolution = len(weight) > 2
    sizes = (
        unit.macs,
        unit.read_bytes,
        unit.written_bytes,
        unit.weight_bytes,
        unit.between_bytes,
        *_channels_and_pixels(shape_in, convolution),
        *_channels_and_pixels(shape_out, convolution),
        math.prod(weight[2:]) if convolution else 0,
        weight[1] if convolution else 0,
        len(unit.nodes),
    )
    channels_in, pixels_in, channels_out, pixels_out = sizes[5:9]
    ordered = (*sizes[:5], channels_in, channels_out, pixels_in, pixels_out, *sizes[9:])
    return tuple(math.log1p(size) for size in ordered)


def kind(unit: Unit) -> str:
    """Units of different kinds say nothing of each other: other kernels run them."""
    depthwise = ""
    node = next((n for n in unit.nodes if n.op_type == unit.anchor), unit.nodes[0])
    groups = _attributes(node).get("group", 1)
    if groups > 1:
        depthwise = "-depthwise" if _shape(unit, node.input[0])[1:2] == (groups,) else "-grouped"
    types = sorted({str(unit.values[name].dtype) for name in (*unit.fed, *unit.made)})
    return f"{unit.anchor}{depthwise}-{'+'.join(types)}"


def _attributes(node: onnx.NodeProto) -> Mapping[str, int]:
    return {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}


def _shape(unit: Unit, name: str) -> tuple[int, ...]:
    value = unit.values.get(name)
    return tuple(value.shape) if value is not None else tuple(unit.held[name].dims) if name in unit.held else ()


def _channels_and_pixels(shape: tuple[int, ...], channels_first: bool) -> tuple[int, int]:
    if len(shape) < 2:
        return math.prod(shape), 1
    if channels_first or len(shape) == 4:
        return shape[1], math.prod(shape[2:])
    return shape[-1], math.prod(shape[1:-1])
