"""What a machine's kernels can do beside writing whole tensors to new places; a microcontroller's are written so.

A depthwise convolution makes each channel from that channel alone, so it can go to where its input was, through memory
for one channel (MCUNet's TinyEngine: Lin et al., arXiv 2007.10319, section 3.2: one channel more instead of as many
again). A product with stored weights makes each row (token) from that row, and goes through memory for one
(MCUFormer's token overwriting: Liang et al., arXiv 2310.16898). Only where the result is as large as
what it overwrites: a smaller one would hold the larger buffer for as long as it lives, which gains nothing.

A kernel that takes strides reads a window of a tensor where it stands and writes one into a larger tensor, so the
slices and concatenations of a file that is cut into patches move nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import onnx

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "QLinearConv": 3}
"""Where their weights stand among their inputs."""
PRODUCTS = {"MatMul": 1, "FusedMatMul": 1, "QLinearMatMul": 3}


@dataclass(frozen=True)
class Kernels:
    """``by_part``: depthwise convolutions and products write over their input, a channel or a row at a time.
    ``windows``: kernels read a window of a tensor, and write one, where it stands."""

    by_part: bool = False
    windows: bool = False


WHOLE_TENSORS = Kernels()


def by_part(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> tuple[list[str], int]:
    """The input that ``node`` can write over part by part, and the bytes of one part."""
    axis = part_axis(node, shapes)
    if axis is None:
        return [], 0
    parts = shapes[node.output[0]][axis] if axis else _rows(shapes[node.output[0]])
    size = sizes[node.output[0]]
    if parts < 2 or size != sizes[node.input[0]]:
        return [], 0
    return [node.input[0]], size // parts


def part_axis(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """1 where each channel, 0 where each row of ``node``'s result is made from the same one of its input; or None."""
    if node.op_type in CONVOLUTIONS:
        image, weight = shapes[node.input[0]], shapes.get(node.input[CONVOLUTIONS[node.op_type]], ())
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        flat = not any(a.name == "channels_last" and a.i for a in node.attribute)
        alone = bool(weight) and groups == weight[0] == image[1] and weight[1] == 1
        return 1 if flat and alone and image[0] == 1 else None
    if node.op_type in PRODUCTS:
        left, right = shapes[node.input[0]], shapes.get(node.input[PRODUCTS[node.op_type]], ())
        plain = not any(a.name.startswith("trans") and a.i for a in node.attribute)
        return 0 if plain and len(right) == 2 and len(left) > 1 and left[-1] == right[1] else None
    return None


def _rows(shape: tuple[int, ...]) -> int:
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows


def strided(
    proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], constants: AbstractSet[str]
) -> tuple[frozenset[str], dict[str, str]]:
    """Tensors that are windows of their source, and those that are written into the tensor they are joined to.

    Not what a reshape reads: strides do not go through it.
    """
    graph = proto.graph
    reads = Counter(name for node in nodes for name in node.input)
    fixed = {value.name for value in graph.output}
    fixed |= {node.input[0] for node in nodes if node.op_type in VIEWS}
    made = {name: node for node in nodes for name in node.output}
    windows = {
        node.output[0]
        for node in nodes
        if node.op_type == "Slice" and node.output[0] not in fixed and all(n in constants for n in node.input[1:] if n)
    }
    own = {name for name, node in made.items() if node.op_type not in VIEWS} - windows - fixed
    parts: dict[str, str] = {}
    for node in nodes:
        names = list(node.input)
        alone = node.op_type == "Concat" and len(set(names)) == len(names) and not parts.keys() & names
        if alone and all(name in own and reads[name] == 1 for name in names):
            parts |= dict.fromkeys(names, node.output[0])
    return frozenset(windows), parts
