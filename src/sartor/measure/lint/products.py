"""The products of a network that a size belongs to: its convolutions and linear layers, each as a file of any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor, nn

from sartor.graph import Graph
from sartor.graph.sliced import outputs_of

Axis = Literal["in", "out"]

MOST_ROWS = 196
"""Pixels or tokens of a product that is swept: its steps are those of its channels, and more rows take longer."""


@dataclass(frozen=True)
class Product:
    """One convolution or linear layer. ``side``: pixels a side of what it takes, or tokens for a linear layer."""

    kernel: int
    side: int
    inputs: int
    outputs: int
    stride: int = 1
    depthwise: bool = False
    linear: bool = False

    @property
    def kind(self) -> str:
        """Products of one kind are run by the same kernels."""
        if self.linear:
            return "linear"
        return f"{'depthwise' if self.depthwise else 'convolution'} {self.kernel}x{self.kernel}"

    @property
    def macs(self) -> int:
        rows = self.side if self.linear else math.ceil(self.side / self.stride) ** 2
        return rows * self.outputs * self.kernel**2 * (1 if self.depthwise else self.inputs)

    def sized(self, axis: Axis, size: int) -> Product:
        if self.depthwise:
            return replace(self, inputs=size, outputs=size)
        return replace(self, inputs=size) if axis == "in" else replace(self, outputs=size)

    def swept(self, held: int) -> Product:
        """What a sweep of one axis starts from: few rows, no stride, ``held`` channels on either side."""
        most = MOST_ROWS if self.linear else math.isqrt(MOST_ROWS)
        return replace(self, side=min(self.side, most), stride=1, inputs=held, outputs=held)

    def to_onnx(self) -> onnx.ModelProto:
        """A file of the product alone, with random weights."""
        draw = np.random.default_rng(0)
        if self.linear:
            shape, node = [1, self.side, self.inputs], onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
            weight, made = [self.inputs, self.outputs], [1, self.side, self.outputs]
        else:
            pad = self.kernel // 2
            node = onnx.helper.make_node(
                "Conv",
                ["x", "w"],
                ["y"],
                pads=[pad] * 4,
                strides=[self.stride] * 2,
                group=self.inputs if self.depthwise else 1,
            )
            shape, out = [1, self.inputs, self.side, self.side], (self.side + 2 * pad - self.kernel) // self.stride + 1
            weight = [self.outputs, 1 if self.depthwise else self.inputs, self.kernel, self.kernel]
            made = [1, self.outputs, out, out]
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [node],
            "product",
            [value("x", onnx.TensorProto.FLOAT, shape)],
            [value("y", onnx.TensorProto.FLOAT, made)],
            [numpy_helper.from_array(draw.standard_normal(weight).astype(np.float32), "w")],
        )
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)


def products(graph: Graph) -> dict[str, Product]:
    """By path: the network's convolutions with square kernels (plain and depthwise) and its linear layers, as the
    example inputs meet them. Other layers are left out."""
    found: dict[str, Product] = {}

    def noting(path: str, layer: Any) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor):
                product = _product(layer, tuple(args[0].shape))
                if product is not None:
                    found[path] = product

        return layer.register_forward_pre_hook(hook)

    layers = [(path, m) for path, m in graph.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [noting(path, layer) for path, layer in layers]
    try:
        args, kwargs = graph.inputs
        outputs_of(graph.model, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _product(layer: Any, shape: tuple[int, ...]) -> Product | None:
    if isinstance(layer, nn.Linear):
        rows = max(1, math.prod(shape[1:-1]))
        return Product(1, rows, layer.in_features, layer.out_features, linear=True)
    depthwise = layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels
    if len(set(layer.kernel_size)) > 1 or (layer.groups > 1 and not depthwise) or len(shape) != 4:
        return None
    side = math.isqrt(max(1, shape[2] * shape[3]))
    return Product(layer.kernel_size[0], side, layer.in_channels, layer.out_channels, layer.stride[0], depthwise)


def axes_of(graph: Graph, known: Mapping[str, Product]) -> dict[str, list[tuple[str, Axis, int]]]:
    """By group: the products that its entries are channels of, on which side, and how many channels an entry is."""
    found: dict[str, list[tuple[str, Axis, int]]] = {}
    for group in graph.groups:
        for tie in group.ties:
            path, _, name = tie.tensor.rpartition(".")
            if name == "weight" and path in known and tie.dim < 2:
                axis: Axis = "out" if tie.dim == 0 else "in"
                found.setdefault(group.name, []).append((path, axis, tie.entries))
    return found
