"""Files of many cuts of one network, to be timed and thrown away: what is shipped is exported by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from sartor.errors import InputError
from sartor.export.onnx import export_draft, export_onnx, write_onnx
from sartor.export.slicing import OnnxSlicer
from sartor.graph import Cut, Graph


class Drafts:
    """``write(cut, file)``: the file of any cut of ``graph``'s network, for images of ``shape`` (C, H, W).

    Sliced in milliseconds, with random weights, once the first that is asked for has made it learn how; exported one
    by one where the network's file is not one that can be sliced, which ``say`` is told. With ``draft`` by the fast
    exporter, where that knows the network.
    """

    def __init__(
        self,
        graph: Graph,
        shape: tuple[int, int, int],
        *,
        draft: bool = True,
        say: Callable[[str], None] = lambda line: None,
    ):
        self._graph = graph
        self._shape = shape
        self._asked = draft
        self._say = say

    @property
    def draft(self) -> bool:
        """Whether files are the fast exporter's: those that are exported one by one are, whatever was asked for."""
        return self._slicer is None or self._slicer.draft

    def write(self, cut: Cut, file: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the network after ``cut``, atomically. Raises InputError for cuts that make no sense."""
        if self._slicer is not None:
            try:
                write_onnx(self._slicer.cut(cut), file, metadata)
                return
            except InputError as error:  # a block that it does not find in the file
                self._say(f"  a file is not sliced: {error}")
        module = self._graph.slice(cut)
        if self.draft:
            export_draft(module, self._shape, file, metadata=metadata)
        else:
            export_onnx(module, self._shape, file, metadata=metadata)

    @cached_property
    def _slicer(self) -> OnnxSlicer | None:
        try:
            return OnnxSlicer(self._graph, self._shape, draft=self._asked, weights=False)
        except Exception as error:  # whatever it does not know: exporting one by one is slower, and works
            self._say(f"  the exported file is not sliced: {error}")
            return None
