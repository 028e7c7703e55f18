"""The report's own JavaScript: draws the Plotly figures in the colours of the moment, switches between figures."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sartor.report.axes import Figure

SCRIPT = """
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const shown = {};
  const resolve = (value, style) => {
    if (typeof value === "string") {
      const name = /^var\\((--[a-z0-9-]+)\\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((v) => resolve(v, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolve(v, style)]));
    return value;
  };
  const draw = (place) => {
    const style = getComputedStyle(document.documentElement);
    const figure = resolve(figures[shown[place.id]], style);
    figure.layout.font.family = getComputedStyle(document.body).fontFamily;
    Plotly.react(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  };
  const places = [...document.querySelectorAll(".chart[data-figure]")];
  for (const place of places) {
    shown[place.id] = place.dataset.figure;
    place.replaceChildren();
    draw(place);
  }
  for (const button of document.querySelectorAll(".switch button")) {
    button.addEventListener("click", () => {
      const place = document.getElementById(button.dataset.place);
      shown[place.id] = button.dataset.figure;
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
      draw(place);
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => places.forEach(draw));
})();
"""


def scripts(figures: Mapping[str, Figure]) -> str:
    """What draws ``figures`` in their places, with Plotly's library (MIT) inlined once; empty without figures."""
    if not figures:
        return ""
    from plotly.offline import get_plotlyjs

    # "<" as \u003c: no text in the data can close the script element or open a comment.
    data = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f"<script>{get_plotlyjs()}</script>\n<script type=application/json id=figures>{data}</script>\n"
        f"<script>{SCRIPT}</script>"
    )
