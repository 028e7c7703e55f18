"""What a target ran of a file, one node at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """One node as the target ran it: a runtime's own names and operators, which need not be the file's.

    ``made``: tensors of the file that it computes, or helps to: a change of layout serves what reads it. ``bound``:
    where the target itself says it (see ``Layer``), else empty.
    """

    name: str
    op: str
    time_ms: float
    made: tuple[str, ...]
    bound: str = ""
