"""The table of layers, which readers can sort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from sartor.measure.layers.layer import Layer
from sartor.report import units
from sartor.report.measured.told import BOUNDS, Told


@dataclass(frozen=True)
class Column:
    """``key``: what it is sorted by; ``cell``: what it shows, as HTML."""

    head: str
    key: Callable[[Layer], float | str]
    cell: Callable[[Layer], str]
    about: str = ""
    left: bool = False


def _gap(layer: Layer) -> float:
    return layer.time_ms / layer.least_ms if layer.least_ms else 0.0


def _shape(layer: Layer) -> str:
    return "×".join(map(str, layer.output_shape))


def _bound(layer: Layer) -> str:
    return f"<span class='dot {BOUNDS.get(layer.bound, ('other',))[0]}'></span>{escape(layer.bound)}"


COLUMNS = (
    Column("layer", lambda layer: layer.name, lambda layer: escape(layer.name), "where its weights live", left=True),
    Column("operator", lambda layer: layer.operator, lambda layer: escape(layer.operator), "one kernel", left=True),
    Column("output", lambda layer: float(_entries(layer)), _shape, "shape of what it makes", left=True),
    Column("time", lambda layer: layer.time_ms, lambda layer: units.ms(layer.time_ms)),
    Column("share", lambda layer: layer.share, lambda layer: units.percent(layer.share), "of the layers' sum"),
    Column("MACs", lambda layer: layer.macs, lambda layer: units.count(layer.macs), "multiply-accumulates"),
    Column("bytes", lambda layer: layer.bytes, lambda layer: units.size(layer.bytes), "moved at least"),
    Column(
        "MAC/B",
        lambda layer: layer.intensity,
        lambda layer: units.significant(layer.intensity),
        "multiply-accumulates for each byte",
    ),
    Column("bound by", lambda layer: layer.bound, _bound, left=True),
    Column("at the roof", lambda layer: layer.least_ms, lambda layer: units.ms(layer.least_ms), "the least time"),
    Column("gap", _gap, lambda layer: f"{_gap(layer):.1f}×" if layer.least_ms else "–", "time over the least time"),
)


def untold(told: Told) -> str:
    """Why there are no layers, where there are none."""
    why = told.found.get("untold") or ("A prediction has no layers." if told.predicted else "")
    return f"<p class=note>{escape(str(why))}</p>" if why and not told.layers else ""


def _entries(layer: Layer) -> int:
    found = 1
    for size in layer.output_shape:
        found *= size
    return found


def layer_table(told: Told) -> str:
    """Every layer, in the order they run; a click on a head sorts."""
    if not told.layers:
        return ""
    heads = "".join(_head(column) for column in (_NUMBER, *COLUMNS))
    rows, most = [], max(layer.time_ms for layer in told.layers) or 1.0
    for number, layer in enumerate(told.layers, start=1):
        cells = "".join(_cell(column, layer) for column in COLUMNS)
        rows.append(
            f"<tr style='--share:{100 * layer.time_ms / most:.1f}%'><td data-v={number}>{number}</td>{cells}</tr>"
        )
    return (
        f"<div class=scroll><table class='wide sortable'><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
        f"<tfoot>{_sum(told)}</tfoot></table></div>"
    )


_NUMBER = Column("", lambda layer: 0.0, lambda layer: "", "the order they run in")


def _head(column: Column) -> str:
    about = f" title='{escape(column.about)}'" if column.about else ""
    css = " class=l" if column.left else ""
    return f"<th{css} scope=col{about}><button type=button>{column.head or '#'}</button></th>"


def _cell(column: Column, layer: Layer) -> str:
    value = column.key(layer)
    said = escape(value) if isinstance(value, str) else f"{value:.9g}"
    return f'<td{" class=l" if column.left else ""} data-v="{said}">{column.cell(layer)}</td>'


def _sum(told: Told) -> str:
    total = {
        "time": units.ms(told.layers_ms),
        "share": units.percent(sum(layer.share for layer in told.layers)),
        "MACs": units.count(sum(layer.macs for layer in told.layers)),
        "bytes": units.size(sum(layer.bytes for layer in told.layers)),
        "at the roof": units.ms(told.least_ms) if told.least_ms else "–",
        "gap": f"{told.layers_ms / told.least_ms:.1f}×" if told.least_ms else "–",
    }
    cells: Mapping[str, str] = {"layer": f"{len(told.layers)} layers", **total}
    inner = "".join(f"<td{' class=l' if c.left else ''}>{cells.get(c.head, '')}</td>" for c in COLUMNS)
    return f"<tr><td></td>{inner}</tr>"
