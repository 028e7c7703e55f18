"""One operator's call, as the rules see it: arguments by name, tensors as labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.graph.atoms import Label

Dims = tuple[Label, ...]
"""The labels of a tensor's dimensions."""

CONVOLUTIONS = (
    *(f"aten.conv{n}d.{form}" for n in (1, 2, 3) for form in ("default", "padding")),
    "aten.conv_transpose1d.default",
    "aten.conv_transpose2d.input",
    "aten.conv_transpose3d.input",
    "aten.convolution.default",
    "aten._convolution.default",
)
SPLITS = (
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
    "aten.unsafe_chunk.default",
    "aten.unsafe_split.Tensor",
    "aten.tensor_split.sections",
    "aten.tensor_split.indices",
)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor: the labels of its dimensions, and whether its entries are truth values (such an index is a mask)."""

    dims: Dims
    boolean: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(label) for label in self.dims)

    @property
    def rank(self) -> int:
        return len(self.dims)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of ``op`` (``aten.conv2d.default``) with its arguments by the schema's names, defaults filled in.

    ``shapes`` are those of the tensors it returns, ``used`` the numbers of those that something reads (None: not
    known); ``where`` is the module it was written in, for messages.
    """

    op: str
    arguments: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...] | None]
    where: str = ""
    used: frozenset[int] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the one tensor it returns."""
        (shape,) = self.shapes
        if shape is None:
            raise TypeError(f"{self.op} returns no tensor")
        return shape

    def tensors(self) -> list[Value]:
        """Every tensor among the arguments, those in lists too."""
        found: list[Value] = []
        for value in self.arguments.values():
            found += [v for v in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(v, Value)]
        return found

    @property
    def why(self) -> str:
        name = self.op.removeprefix("aten.").split(".")[0]
        return f"{name} in {self.where}" if self.where else name
