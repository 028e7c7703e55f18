"""The report's own JavaScript: draws the Plotly figures in the colours of the moment, switches the front's cost."""

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
