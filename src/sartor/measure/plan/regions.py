"""Which part of its inputs a node needs for a part of its output: what lets a network be run patch by patch.

Images ``[1, channels, height, width]`` are cut along height and width, tokens ``[1, tokens, width]`` along the tokens.
A window at the image's border keeps the padding of that side and has none on the others. A node whose rule is missing,
or whose output depends on more than a window of its input, has no answer, and a patch ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import onnx

from sartor.measure.plan.kernels import CONVOLUTIONS, PRODUCTS

Box = tuple[tuple[int, int], ...]
"""First and one past the last, along each of the axes that are cut."""

_ARITHMETIC = (
    "Relu LeakyRelu Elu Celu Selu Sigmoid HardSigmoid Tanh Softplus Softsign ThresholdedRelu Clip Cast PRelu Gelu "
    "FastGelu BiasGelu QuickGelu HardSwish Swish Mish Erf Exp Log Sqrt Neg Abs Floor Ceil Round Not Add Sub Mul Div "
    "Pow Max Min Sum Where Identity QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu"
)
POINTWISE = frozenset(_ARITHMETIC.split())
"""Each value from the values at its own place; constants are broadcast from the right."""
_CHANNELWISE = frozenset({"BatchNormalization", "QuantizeLinear", "DequantizeLinear"})
_ROWWISE = frozenset(
    {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"}
)
_POOLS = frozenset({"MaxPool", "AveragePool", "QLinearAveragePool"})


@dataclass(frozen=True)
class Needs:
    """``boxes``: of each activation that is read; ``crops``: of constants that differ from place to place, by axis;
    ``pads``: the padding that is left, where the node has any."""

    boxes: dict[str, Box]
    crops: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)
    pads: tuple[int, ...] | None = None


def cut_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return {4: (2, 3), 3: (1,)}.get(len(shape), ())


def whole(shape: tuple[int, ...]) -> Box:
    return tuple((0, shape[axis]) for axis in cut_axes(shape))


def needs(
    node: onnx.NodeProto, box: Box, shapes: Mapping[str, tuple[int, ...]], constants: AbstractSet[str]
) -> Needs | None:
    """What ``node`` reads for ``box`` of its output; None where it cannot be said."""
    out = shapes[node.output[0]]
    axes = cut_axes(out)
    if not axes or any(cut_axes(shapes[n]) != axes or whole(shapes[n]) != whole(out) for n in node.output if n):
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("channels_last"):
        return None
    read = [name for name in node.input if name and name not in constants]
    stored = [name for name in node.input if name in constants]
    plain = all(cut_axes(shapes[name]) == axes and whole(shapes[name]) == whole(out) for name in read)
    if node.op_type in POINTWISE:
        return _pointwise(node, box, shapes, constants)
    if node.op_type in _CHANNELWISE:
        across = _channel_axis(node, attributes, shapes) not in axes and not attributes.get("block_size")
        return Needs({read[0]: box}) if across and plain and read == [node.input[0]] else None
    if node.op_type in _ROWWISE:
        last = attributes.get("axis", -1) % len(out) == len(out) - 1
        return (
            Needs(dict.fromkeys(read, box), _crops(stored, out, box, shapes))
            if axes == (1,) and last and plain
            else None
        )
    if node.op_type == "Concat":
        across = attributes["axis"] % len(out) not in axes
        return Needs(dict.fromkeys(read, box), _crops(stored, out, box, shapes)) if across and plain else None
    if node.op_type in PRODUCTS:
        right = node.input[PRODUCTS[node.op_type]]
        turned = any(value for name, value in attributes.items() if name.startswith("trans"))
        rows = axes == (1,) and right in constants and len(shapes[right]) == 2 and not turned
        return Needs({read[0]: box}) if rows and plain and read == [node.input[0]] else None
    if node.op_type in CONVOLUTIONS or node.op_type in _POOLS:
        return _sliding(node, box, shapes, constants, attributes)
    return None


def _channel_axis(
    node: onnx.NodeProto, attributes: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> int | None:
    """The axis along which the node's constants differ; None where there is one for all."""
    if node.op_type != "BatchNormalization" and shapes[node.input[1]] in ((), (1,)):
        return None
    axis: int = attributes.get("axis", 1) if node.op_type != "BatchNormalization" else 1
    return axis % len(shapes[node.output[0]])


def _pointwise(
    node: onnx.NodeProto, box: Box, shapes: Mapping[str, tuple[int, ...]], constants: AbstractSet[str]
) -> Needs | None:
    out = shapes[node.output[0]]
    boxes: dict[str, Box] = {}
    for name in filter(None, node.input):
        shape = shapes[name]
        if name in constants:
            continue
        if len(shape) != len(out):
            return None
        boxes[name] = tuple((0, 1) if shape[a] == 1 else b for a, b in zip(cut_axes(out), box, strict=True))
    return Needs(boxes, _crops([name for name in node.input if name in constants], out, box, shapes))


def _crops(
    stored: Iterable[str], out: tuple[int, ...], box: Box, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[int, tuple[int, int]]]:
    """Of constants that lie on the output, broadcast from the right, what lies on ``box`` of it."""
    crops: dict[str, dict[int, tuple[int, int]]] = {}
    for name in stored:
        shape = shapes[name]
        missing = len(out) - len(shape)
        where = {a - missing: b for a, b in zip(cut_axes(out), box, strict=True) if a >= missing}
        where = {axis: part for axis, part in where.items() if shape[axis] > 1}
        if where:
            crops[name] = where
    return crops


def _sliding(
    node: onnx.NodeProto,
    box: Box,
    shapes: Mapping[str, tuple[int, ...]],
    constants: AbstractSet[str],
    attributes: Mapping[str, Any],
) -> Needs | None:
    image, out = shapes[node.input[0]], shapes[node.output[0]]
    if len(image) != 4 or attributes.get("ceil_mode") or sum(map(bool, node.output)) > 1:
        return None
    weight = CONVOLUTIONS.get(node.op_type)
    if weight is not None and any(name not in constants for name in node.input[1:3] if name):
        return None
    kernel = attributes.get("kernel_shape") or (shapes[node.input[weight]][2:] if weight is not None else ())
    if len(kernel) != 2:
        return None
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(attributes, image[2:], out[2:], strides, reach)
    if any(pads[axis] > reach[axis] or pads[axis + 2] > reach[axis] for axis in (0, 1)):
        return None  # values that see nothing but padding: no window of the image would be theirs
    part, left = [], [0, 0, 0, 0]
    for axis, (first, last) in enumerate(box):
        low = first * strides[axis] - pads[axis]
        high = (last - 1) * strides[axis] - pads[axis] + reach[axis] + 1
        start, end = max(low, 0), min(high, image[axis + 2])
        part.append((start, end))
        left[axis], left[axis + 2] = start - low, high - end
    boxes: dict[str, Box] = {node.input[0]: tuple(part)}
    summands = [name for name in node.input[3:] if name] if node.op_type == "FusedConv" else []
    for name in summands:
        if name not in constants:
            if name in boxes or shapes[name] != out:
                return None
            boxes[name] = box
    crops = _crops([name for name in summands if name in constants], out, box, shapes)
    return Needs(boxes, crops, pads=tuple(left))


def _pads(
    attributes: Mapping[str, Any], image: tuple[int, ...], out: tuple[int, ...], strides: list[int], reach: list[int]
) -> list[int]:
    """As ONNX's Conv defines ``auto_pad``, written out."""
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto == "NOTSET":
        return list(attributes.get("pads", [0, 0, 0, 0]))
    if auto == "VALID":
        return [0, 0, 0, 0]
    total = [max(0, (o - 1) * s + r + 1 - i) for i, o, s, r in zip(image, out, strides, reach, strict=True)]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*less, *more] if auto == "SAME_UPPER" else [*more, *less]
