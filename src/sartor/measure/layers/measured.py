"""The layers of a file on a target: what each costs, how long it takes, what bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from sartor.measure.layers.homes import homes
from sartor.measure.layers.kernels import RUNS, kernels
from sartor.measure.layers.layer import Layer, Roof
from sartor.measure.layers.node import Node
from sartor.measure.layers.roof import roof
from sartor.measure.runnable import load
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.targets.simulated import Simulated
from sartor.measure.targets.target import Target
from sartor.measure.trial import admit
from sartor.measure.units.split import Unit, units
from sartor.measure.units.table import measured

_PICKS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Shape", "Split"})
"""Read no more than they write, however large what they choose from is."""
_QUANTISED = ("QLinear", "QGemm", "Integer")
_SPEAKS = "."
"""Between the parts of a module's path."""


@dataclass(frozen=True)
class Explained:
    """``nodes``: what the target ran, each with the name of its layer; none where units were timed by themselves.
    ``untold``: which of those could not be timed, if any."""

    layers: tuple[Layer, ...]
    roof: Roof
    nodes: tuple[tuple[Node, str], ...]
    untold: str | None = None

    def to_dict(self) -> dict[str, Any]:
        total = sum(node.time_ms for node, _ in self.nodes) or 1.0
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "roof": self.roof.to_dict(),
            "nodes": [
                {"name": n.name, "op": n.op, "time_ms": n.time_ms, "share": n.time_ms / total, "layer": name}
                for n, name in self.nodes
            ],
            **({} if self.untold is None else {"untold": self.untold}),
        }


def layers(file: Path, target: Target, *, under: Roof | None = None, runs: int = RUNS) -> tuple[Layer, ...]:
    """The layers of ``file`` at batch 1 on ``target``, in the order of the file.

    ``under``: the target's roof, where it was measured before. Raises InputError for a file that does not run.
    """
    return explained(file, target, under=under, runs=runs).layers


def explained(file: Path, target: Target, *, under: Roof | None = None, runs: int = RUNS) -> Explained:
    """As :func:`layers`, with the roof and what ran.

    ONNX Runtime tells the time of each kernel inside the whole network, a simulated target that of each node; on others
    units are timed by themselves (``units.table``), which leaves out what they cost each other.
    """
    admit(file)
    split = units(file)
    under = under or roof(target)
    if not isinstance(target, (OnnxRuntime, Simulated)):
        alone = measured(split, target)
        timed = [(unit, alone.get(unit.key, 0.0), "") for unit in split]
        found = _layers(timed, under)
        refused = [layer.name for layer, (unit, _, _) in zip(found, timed, strict=True) if unit.key not in alone]
        why = (
            f"{target.name} runs these in the network but not by themselves, so they have no time: {', '.join(refused)}"
        )
        return Explained(found, under, (), why if refused else None)
    ran = kernels(file, target, runs=runs) if isinstance(target, OnnxRuntime) else target.nodes(file)
    results = frozenset(value.name for value in load(file).graph.output)
    owned = homes(split, ran, results)
    found = _layers([(unit, sum(n.time_ms for n in nodes), _slowest(nodes)) for unit, nodes in owned], under)
    belongs = {id(node): layer.name for (_, nodes), layer in zip(owned, found, strict=True) for node in nodes}
    return Explained(found, under, tuple((node, belongs[id(node)]) for node in ran))


def _slowest(nodes: Sequence[Node]) -> str:
    """What the target itself says bounds the slowest of ``nodes``."""
    return max(nodes, key=lambda node: node.time_ms).bound if nodes else ""


def _layers(timed: Sequence[tuple[Unit, float, str]], under: Roof) -> tuple[Layer, ...]:
    total = sum(ms for _, ms, _ in timed) or 1.0
    return tuple(_layer(unit, ms, ms / total, bound, under) for unit, ms, bound in timed)


def _layer(unit: Unit, ms: float, share: float, bound: str, under: Roof) -> Layer:
    moved, bits = _moved(unit), _bits(unit)
    output = unit.values[(unit.made or unit.nodes[-1].output)[-1]]
    return Layer(
        name=_name(unit),
        operator=_operator(unit),
        output_shape=tuple(output.shape),
        macs=unit.macs,
        bytes=moved,
        weight_bytes=unit.weight_bytes,
        time_ms=ms,
        share=share,
        bound=bound or under.bound(unit.macs, moved, ms, bits),
        least_ms=under.least_ms(unit.macs, moved, bits),
        bits=bits,
    )


def _anchor(unit: Unit) -> onnx.NodeProto:
    """As ``Unit.anchor`` says, and not its quantisers."""
    works = [node for node in unit.nodes if node.op_type != "DequantizeLinear"] or unit.nodes
    return max(works, key=unit.node_macs)


def _name(unit: Unit) -> str:
    anchor = _anchor(unit)
    held = [name for name in (*anchor.input, *unit.held) if name in unit.held and _SPEAKS in name]
    return held[0].rpartition(_SPEAKS)[0] if held else anchor.name or anchor.output[0]


def _operator(unit: Unit) -> str:
    anchor = _anchor(unit)
    others = (n.op_type for n in unit.nodes if n is not anchor and n.op_type not in ("DequantizeLinear", "Identity"))
    return "+".join((anchor.op_type, *others))


def _moved(unit: Unit) -> int:
    """Read and written, once each; of what is only chosen from, such as a table of words, what is chosen."""
    moved = unit.written_bytes
    for name, size in unit.sizes.items():
        readers = [node for node in unit.nodes if name in node.input]
        if all(node.op_type in _PICKS and name not in node.input[1:] for node in readers):
            made = {output for node in readers for output in node.output if output in unit.values}
            size = min(size, sum(int(unit.values[output].nbytes) for output in made))
        moved += size
    return moved


def _bits(unit: Unit) -> int:
    """Of what its anchor works on."""
    anchor = _anchor(unit)
    if any(part in anchor.op_type for part in _QUANTISED):
        return 8
    dequantised = {node.output[0] for node in unit.nodes if node.op_type == "DequantizeLinear"}
    return 8 if len(anchor.input) > 1 and all(name in dequantised for name in anchor.input[:2]) else 32
