"""The page of what was measured: it holds every layer and number, needs nothing else, and what it draws adds up."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.outline import figures, outline
from sartor.errors import InputError, WriteError
from sartor.measure.compare import ratios
from sartor.measure.layers.layer import Layer, Roof
from sartor.measure.layers.matched import matched
from sartor.report import units
from sartor.report.document import POLICY
from sartor.report.measured.memory import memory_figure
from sartor.report.measured.page import measured_html, write_measured
from sartor.report.measured.roofline import roofline_figure
from sartor.report.measured.told import Told
from sartor.report.measured.waterline import waterline_figure

ROOF = Roof(80e9, 20e9, int8_macs_per_s=240e9)
SIZES = (
    ("conv1", "Conv+Relu", (1, 64, 112, 112), 118_013_952, 3_853_312, 2.87),
    ("pool", "MaxPool", (1, 64, 56, 56), 0, 4_014_080, 0.37),
    ("layer1.0.conv1", "Conv+Relu", (1, 64, 56, 56), 115_605_504, 1_753_088, 2.14),
    ("depthwise", "Conv", (1, 64, 56, 56), 1_806_336, 1_607_936, 0.31),
    ("fc", "Gemm", (1, 1000), 512_000, 2_056_000, 0.21),
    ("tiny", "Conv", (1, 8, 1, 1), 128, 640, 0.004),
)


def layers(rows: Any = SIZES) -> list[Layer]:
    total = sum(row[-1] for row in rows)
    return [
        Layer(
            name, operator, shape, macs, size, 0, ms, ms / total, ROOF.bound(macs, size, ms), ROOF.least_ms(macs, size)
        )
        for name, operator, shape, macs, size, ms in rows
    ]


def found(model: str = "timm:resnet18", some: list[Layer] | None = None, **more: Any) -> dict[str, Any]:
    """What ``sartor measure --json`` prints; the numbers are invented."""
    some = layers() if some is None else some
    ms = 1.02 * sum(layer.time_ms for layer in some) or 1.0
    return {
        "model": model,
        "params": 11_689_512,
        "macs": sum(layer.macs for layer in some),
        "elementwise": 4_000_000,
        "peak_activation_bytes": 4_420_000,
        "planned_activation_bytes": 4_010_000,
        "latency_ms": ms,
        "latency_p95_ms": 1.1 * ms,
        "latency_ci_ms": [0.98 * ms, 1.03 * ms],
        "target": "onnxruntime",
        "threads": 1,
        "batch": 1,
        "size_bytes": 46_700_000,
        "layers": [layer.to_dict() for layer in some],
        "roof": ROOF.to_dict(),
        "memory_plan": {
            "arena_bytes": 300,
            "peak_bytes": 300,
            "exact": True,
            "steps": ["Conv a", "Relu b", "Gemm c"],
            "buffers": [
                {"name": "x", "offset": 0, "bytes": 100, "first": -1, "last": 0},
                {"name": "a", "offset": 100, "bytes": 200, "first": 0, "last": 1},
                {"name": "c", "offset": 0, "bytes": 50, "first": 2, "last": 3},
            ],
        },
        "timing": {
            "n": 200,
            "warmup": 9,
            "p95_ms": 1.1 * ms,
            "load": 0.4,
            "cpu_mhz": None,
            "drift": 1.2,
            "disturbed": True,
        },
        "device": {"cpu": "a processor", "cores": 2, "isa": ["avx2"], "memory_bytes": 8_000_000_000},
        "versions": {"sartor": "0.1.0"},
        **more,
    }  # fmt: skip


def both() -> dict[str, Any]:
    other = [row for row in SIZES if row[0] != "pool"] + [("new", "Conv", (1, 4, 4, 4), 9_000, 900, 0.05)]
    one, two = found(), found("timm:other", layers([(*row[:-1], row[-1] / 2) for row in other]))
    return {"models": [one, two], "ratios": [ratios(one, two)]}


def text_of(page: str) -> str:
    return " ".join("".join(f" {part} " for part in outline(page).text).split())


def test_every_layer_is_there_with_every_number() -> None:
    page = measured_html(found())
    table = page[page.index("<section id=layers>") :]
    for layer in layers():
        row = next(row for row in re.findall(r"<tr .*?</tr>", table) if f'data-v="{layer.name}"' in row)
        values = dict(enumerate(re.findall(r'data-v="([^"]*)"', row)))
        assert float(values[3]) == pytest.approx(layer.time_ms)
        assert [int(values[5]), int(values[6])] == [layer.macs, layer.bytes]
        assert float(values[9]) == pytest.approx(layer.least_ms)
        for said in (layer.operator, units.ms(layer.time_ms), units.percent(layer.share), layer.bound):
            assert said in row
    text = text_of(page)
    for said in (
        "11.7 M",
        "95% interval 5.90 to 6.20 ms",
        "46.7 MB",
        "onnxruntime with 1 thread",
        "a processor",
        "20% slower",
    ):
        assert said in text
    assert "never came to rest" in text


@pytest.mark.parametrize("what", [found, both], ids=["one", "two"])
def test_the_page_needs_nothing_but_itself(what: Callable[[], dict[str, Any]]) -> None:
    page = measured_html(what())
    seen = outline(page)
    assert seen.sources == []
    assert len(seen.ids) == len(set(seen.ids))
    assert seen.targets
    assert all(target.startswith("#") and target[1:] in seen.ids for target in seen.targets)
    assert POLICY in page
    drawn = figures(page)
    assert set(re.findall(r'data-figure="([^"]+)"', page)) == set(drawn)
    assert set(re.findall(r"data-place=([\w-]+)", page)) <= set(seen.ids)
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", page.split("</style>")[1] + json.dumps(drawn)))
    assert used - {"--share"} <= set(re.findall(r"(--[a-z0-9-]+):", page.split("</style>")[0]))
    for figure in drawn.values():
        plotly.graph_objects.Figure(json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#123456", json.dumps(figure))))


def test_the_roof_is_over_the_dots_and_meets_at_the_ridge() -> None:
    figure = roofline_figure(layers(), ROOF)
    assert figure is not None
    roof = figure["data"][0]
    assert dict(zip(roof["x"], roof["y"], strict=True))[ROOF.ridge] == pytest.approx(ROOF.peak_macs_per_s / 1e9)
    dots = {
        text.partition("</b>")[0].removeprefix("<b>"): (x, y)
        for trace in figure["data"] if trace.get("text")
        for text, x, y in zip(trace["text"], trace["x"], trace["y"], strict=True)
    }  # fmt: skip
    assert set(dots) == {layer.name for layer in layers() if layer.macs}
    for layer in layers():
        if layer.macs:
            x, y = dots[layer.name]
            # A dot is as far below the roof as the layer is slower than its least time.
            assert min(ROOF.peak_macs_per_s, x * ROOF.bytes_per_s) / (1e9 * y) == pytest.approx(
                layer.time_ms / layer.least_ms, rel=1e-4
            )


measured_layers = st.lists(
    st.builds(
        lambda name, macs, size, ms: (name, "Conv", (1, 2), macs, size, ms),
        st.text(max_size=8),
        st.integers(0, 10**9),
        st.integers(1, 10**8),
        st.floats(1e-4, 1e3),
    ),
    min_size=1,
    max_size=12,
)


@given(measured_layers)
def test_areas_under_the_bars_are_arithmetic_and_the_waterline_is_their_level(rows: Any) -> None:
    told = Told(found(some=layers(rows)))
    figure = waterline_figure(told)
    bars = [
        (width, height)
        for trace in figure["data"] if trace["type"] == "bar"
        for width, height in zip(trace["width"], trace["y"], strict=True)
    ]  # fmt: skip
    area = sum(width * height / 100 for width, height in bars)
    ideal_ms = 1e3 * sum(row[3] for row in rows) / ROOF.peak_macs_per_s
    assert area == pytest.approx(ideal_ms, rel=1e-4, abs=1e-9)
    level = figure["layout"]["shapes"][0]["y0"] / 100
    assert level * sum(row[-1] for row in rows) == pytest.approx(ideal_ms, rel=1e-4, abs=1e-9)
    # latency = operations / (peak x efficiency)
    if level:
        assert 1e3 * sum(row[3] for row in rows) / (ROOF.peak_macs_per_s * level) == pytest.approx(told.layers_ms)


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload=alert(1) <!-- & ${x}"


def test_hostile_names_stay_text() -> None:
    rows = [(f"{HOSTILE}{i}", HOSTILE, (1, 1), 10**6 * i, 10**5, 1.0 + i) for i in range(3)]
    one = found(HOSTILE, layers(rows), device={"cpu": HOSTILE}, target=HOSTILE, misfits=[HOSTILE])
    one["memory_plan"]["buffers"][0]["name"] = one["memory_plan"]["steps"][0] = HOSTILE
    ratio = {**both()["ratios"][0], "model": HOSTILE}
    for what in (one, {"models": [one, one, found()], "ratios": [ratio, ratio]}):
        page = measured_html(what)
        seen = outline(page)
        assert seen.scripts == 4, "Plotly, the figures, what draws them, what sorts"
        assert seen.sources == []
        data = page[page.index("<script type=application/json") :]
        assert "<" not in data[data.index(">") + 1 : data.index("</script>")]
        assert HOSTILE in "".join(seen.text)


@settings(max_examples=15)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_is_shown_as_it_is(name: str, operator: str) -> None:
    page = measured_html(found(f"x{name}", layers([(name, operator, (1, 1), 10**6, 10**5, 1.0)])))
    outline(page)


def test_networks_side_by_side() -> None:
    what = both()
    page = measured_html(what)
    text = text_of(page)
    ratio = what["ratios"][0]
    assert f"is {1 / ratio['latency_ms']:.2f} times as fast as resnet18" in text
    low, high = ratio["latency_ci"]
    assert f"{low:.2f} to {high:.2f}" in text
    assert low < ratio["latency_ms"] < high
    assert "5 layers have the same name in both; resnet18 alone has 1, other alone 1." in text
    for model in what["models"]:
        for layer in model["layers"]:
            assert f'data-v="{layer["name"]}"' in page
    stacked = figures(page)["times-operator"]["data"]
    for place, model in enumerate(what["models"]):
        assert sum(trace["x"][place] for trace in stacked) == pytest.approx(
            sum(e["time_ms"] for e in model["layers"]), rel=1e-5
        )
    what["ratios"][0]["latency_ci"] = [0.9, 1.1]
    assert "as fast as resnet18, as far as can be told" in text_of(measured_html(what))


def test_what_was_not_measured_is_not_invented() -> None:
    predicted = found(some=[], known=0.7)
    for key in ("roof", "timing", "memory_plan", "batch"):
        del predicted[key]
    page = measured_html(predicted)
    assert "Predicted: 1.00 ms a call." in text_of(page)
    assert "A prediction has no layers." in text_of(page)
    assert not {"roofline", "efficiency", "memory", "time"} & set(outline(page).ids)
    told = found(some=[], untold="files are converted")
    assert "files are converted" in text_of(measured_html(told))
    both_ = {"models": [predicted, predicted], "ratios": [{**both()["ratios"][0], "latency_ci": None}]}
    page = text_of(measured_html(both_))
    assert "as far as can be told" in page  # without an interval nothing is certain
    assert f"{both_['ratios'][0]['latency_ms']:.2f} to" not in page


def test_several_examples_are_not_held_against_the_roof_of_one() -> None:
    one = found()
    several = {**one, "batch": 8, "latency_ms": 8 * one["latency_ms"], "latency_p95_ms": 9 * one["latency_ms"]}
    page = text_of(measured_html(several))
    assert f"{units.ms(several['latency_ms'])} a call of 8 examples." in page
    assert "on a machine that changed" not in page
    share = units.percent(Told(one).arithmetic_ms / one["latency_ms"])
    assert f"{share} of the peak" in page
    assert f"{share} of the peak" in text_of(measured_html(one))


def test_8_bits_have_a_peak_of_their_own() -> None:
    macs, size = 10**8, 10**6
    least = ROOF.least_ms(macs, size, 8)
    layer = Layer("conv", "Conv", (1, 8), macs, size, 0, 1.1 * least, 1.0, "compute", least, bits=8)
    told = Told(found(some=[layer]))
    assert told.arithmetic_ms == pytest.approx(1e3 * macs / ROOF.int8_macs_per_s)
    assert told.arithmetic_ms <= told.least_ms
    (bar, roof_) = waterline_figure(told)["data"]
    assert bar["y"][0] <= 100
    assert bar["y"][0] <= roof_["y"][0]
    assert units.percent(told.efficiency) in text_of(measured_html(told.found))


def test_layers_that_take_nothing() -> None:
    instant = Layer("a", "Relu", (1,), 0, 10, 0, 0.0, 0.0, "memory", ROOF.least_ms(0, 10))
    outline(measured_html(found(some=[instant])))
    outline(measured_html(found(some=layers([("a", "Conv", (1,), 0, 0, 0.0), ("b", "Conv", (), 5, 10, 1.0)]))))


@given(measured_layers, measured_layers)
def test_matching_loses_and_doubles_no_layer(before: Any, after: Any) -> None:
    one, two = layers(before), layers(after)
    pairs = matched(one, two)
    assert sorted(id(p.before) for p in pairs if p.before) == sorted(map(id, one))
    assert sorted(id(p.after) for p in pairs if p.after) == sorted(map(id, two))
    assert all(p.before.name == p.after.name == p.name for p in pairs if p.before and p.after)
    assert sum(p.change_ms for p in pairs) == pytest.approx(
        sum(x.time_ms for x in two) - sum(x.time_ms for x in one), abs=1e-6
    )
    assert all(p.before is p.after for p in matched(one, one))


def test_memory_is_drawn_where_it_is() -> None:
    plan = found()["memory_plan"]
    (bars,) = memory_figure(plan)["data"]
    boxes = list(zip(bars["x"], bars["width"], bars["base"], bars["y"], strict=True))
    assert boxes == [(0, 1, 0.0, 0.1), (0, 2, 0.1, 0.2), (2, 1, 0.0, 0.05)]
    assert "the input to Conv a" in bars["text"][0]
    assert "Gemm c to the end" in bars["text"][2]


def test_a_page_has_its_place_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        write_measured(tmp_path / "nowhere" / "page.html", found())
    assert not (tmp_path / "nowhere").exists(), "a mistyped folder is not made"
    with pytest.raises(InputError, match="is a folder"):
        write_measured(tmp_path, found())
    with pytest.raises(WriteError, match=r"cannot write /proc/page.html"):
        write_measured(Path("/proc/page.html"), found())  # nobody can, root neither
    page = tmp_path / "page.html"
    write_measured(page, found())
    before = page.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match="the disk is full") as raised:
        write_measured(page, both())
    assert "\n" not in str(raised.value)
    assert page.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
