"""What the picked network gets wrong: its confusion matrix, the pairs it confuses most, some of the images."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sartor.report import charts, units
from sartor.report.page import Page, section

FEW_CLASSES = 16
"""Up to here the confusion matrix is a table of numbers; beyond, a heat map to hover over."""

MAX_PAIRS = 8
MAX_IMAGES = 24
TINY_PIXELS = 96
"""Images narrower than this are enlarged with hard pixels: blurred, a 32-pixel photograph shows nothing."""


def mistakes(page: Page) -> str:
    picked = page.run.picked_record
    if picked is None:
        return ""
    key = f"{picked.name}/{picked.precision}"
    matrix = (page.run.evidence.get("confusion") or {}).get(key)
    samples = (page.run.evidence.get("mistakes") or {}).get(key) or []
    confusion = _confusion(page, matrix) if matrix else ""
    return section("mistakes", f"What {escape(picked.name)} gets wrong", confusion, _gallery(page, samples))


def _confusion(page: Page, matrix: Sequence[Sequence[float]]) -> str:
    names = [page.class_name(i) for i in range(len(matrix))]
    total, right = sum(map(sum, matrix)), sum(row[i] for i, row in enumerate(matrix))
    intro = f"<p>{total - right:,.0f} of {total:,.0f} images. Rows are the true classes, columns what it said.</p>"
    if len(matrix) <= FEW_CLASSES:
        grid = f"<div class=scroll>{_grid(names, matrix)}</div>"
    else:
        grid = page.chart("confusion", charts.confusion_figure(matrix, names), "tall")
    css = "two" if len(matrix) <= FEW_CLASSES else ""
    return f"{intro}<div class='{css}'>{grid}{_pairs(names, matrix)}</div>"


def _pairs(names: Sequence[str], matrix: Sequence[Sequence[float]]) -> str:
    wrong = [(cell, i, j) for i, row in enumerate(matrix) for j, cell in enumerate(row) if i != j and cell]
    items = "".join(
        f"<li>{escape(names[i])} taken for {escape(names[j])} "
        f"<span class=quiet>{cell:,.0f}, {units.percent(cell / sum(matrix[i]))} of {escape(names[i])}</span></li>"
        for cell, i, j in sorted(wrong, key=lambda w: -w[0])[:MAX_PAIRS]
    )
    return f"<div><h3>Confused most often</h3><ol class=pairs>{items}</ol></div>" if items else ""


def _grid(names: Sequence[str], matrix: Sequence[Sequence[float]]) -> str:
    """The matrix as a table. Right answers are tinted by their share of 1, wrong ones by their share of a quarter.

    On one scale nobody would see the wrong ones.
    """
    head = "".join(f"<th scope=col><span>{escape(n)}</span></th>" for n in names)
    rows = []
    for i, row in enumerate(matrix):
        cells = []
        for j, cell in enumerate(row):
            share = cell / (sum(row) or 1)
            strength = 0.1 + 0.55 * share if i == j else 0.7 * min(1.0, 4 * share)
            tint = f"rgba(var({'--heat' if i == j else '--wrong'}),{strength:.2f})"
            hint = f"{names[i]} taken for {names[j]}: {cell:,.0f}, {units.percent(share)}"
            text = f"{cell:,.0f}" if cell else "<span class=quiet>·</span>"
            cells.append(f'<td style="background:{tint}" title="{escape(hint)}">{text}</td>')
        rows.append(f"<tr><th class=r scope=row>{escape(names[i])}</th>{''.join(cells)}</tr>")
    return f"<table class=confusion><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def png_width(text: Any) -> int | None:
    """The width of a base64 PNG in pixels; None when it is none, and then it does not get into the page."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9+/]+=*", text):
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int(struct.unpack(">I", raw[16:20])[0]) if raw[:8] == b"\x89PNG\r\n\x1a\n" and len(raw) > 24 else None


def _gallery(page: Page, samples: Sequence[Mapping[str, Any]]) -> str:
    figures = []
    for sample in samples:
        width, sure = png_width(sample.get("png_base64")), sample.get("probability")
        if width is None:
            continue
        true, said = page.class_name(sample.get("true")), page.class_name(sample.get("predicted"))
        share = f" <span class=quiet>{100 * sure:.0f}%</span>" if isinstance(sure, (int, float)) else ""
        figures.append(
            f'<figure><img{" class=tiny" if width < TINY_PIXELS else ""} alt="{escape(f"{true}, taken for {said}")}" '
            f'src="data:image/png;base64,{sample["png_base64"]}">'
            f"<s>{escape(said)}</s>{share}<br><span class=quiet>in fact {escape(true)}</span></figure>"
        )
    if not figures:
        return ""
    intro = "<p class=note>What it said and how sure it was, then the true class.</p>"
    return f"<h3>Some of its mistakes</h3>{intro}<div class=gallery>{''.join(figures[:MAX_IMAGES])}</div>"
