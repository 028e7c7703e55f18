"""The report: whole, self-contained, safe against what is in the data, and written for whatever a run has."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report.fabricated import evidence, fabricate_run, front_records, png, run_info
from report.outline import figures, outline
from sartor.errors import InputError
from sartor.report.charts import confusion_figure
from sartor.report.document import POLICY
from sartor.report.files import RunFiles, read_run
from sartor.report.html import render, write_report
from sartor.report.mistakes import png_width


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = fabricate_run(tmp_path_factory.mktemp("report") / "run")
    return write_report(run).read_text()


def test_the_story_is_told_in_order(page: str) -> None:
    seen = outline(page)
    sections = ("result", "front", "mistakes", "search", "tried", "time", "curves", "provenance")
    assert [name for name in seen.ids if name in sections] == list(sections)
    assert [target.removeprefix("#") for target in seen.targets] == list(sections[1:])
    text = " ".join("".join(seen.text).split())
    assert text.index("90.1%") < text.index("Every network below")
    for said in (
        "6.7 points more accurate than the best baseline that is no slower, random A",
        "95% interval 89.5% to 90.7%",
        "size_bytes 5.1e+06 over 1e+06 by 410.0%",
        "cat taken for dog",
        "1.2 × 109",  # the exponent is a superscript
        "+3.1 points on average. Its front covers 1.18 times the hypervolume.",
        "12% slower than fp32 on this processor",
        "10 min 02 s of 10 min 40 s",
        "sartor fit cifar10 --max-latency 0.5ms --max-size 1MB --time 20m",
    ):
        assert said in text


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    seen = outline(page)
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    assert all(target.startswith("#") for target in seen.targets)
    assert f'<meta http-equiv=Content-Security-Policy content="{POLICY}">' in page
    assert "default-src 'none'" in POLICY
    assert "http" not in POLICY


def test_every_figure_passes_plotlys_own_validation(page: str) -> None:
    drawn = figures(page)
    costs = {"front-latency_ms", "front-size_bytes", "front-macs", "front-peak_memory_bytes"}
    assert set(drawn) == {"front", "search", "curves"} | costs
    for figure in drawn.values():
        # The validators know colours, not style variables: those are the browser's.
        plotly.graph_objects.Figure(json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#123456", json.dumps(figure))))


def test_every_chart_and_colour_that_is_used_is_defined(page: str) -> None:
    drawn, seen = figures(page), outline(page)
    assert set(re.findall(r'data-figure="([^"]+)"', page)) <= set(drawn)
    assert set(re.findall(r"data-place=([\w-]+)", page)) <= set(seen.ids)
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", page))
    light, dark = re.findall(r":root\{(.*?)\}", page, flags=re.DOTALL)
    shared = {"--serif", "--sans", "--mono"}
    assert used <= set(re.findall(r"(--[a-z0-9-]+):", light))
    assert used - shared <= set(re.findall(r"(--[a-z0-9-]+):", dark))


def test_the_front_chart_shows_what_the_front_says(page: str) -> None:
    traces = {t.get("name"): t for t in figures(page)["front"]["data"]}
    for precision in ("fp32", "int8"):
        expected = [
            (r.metrics["latency_ms"], 100 * r.metrics["accuracy_test"])
            for r in front_records()
            if r.precision == precision
        ]
        assert traces[precision]["x"] == [latency for latency, _ in expected]
        assert traces[precision]["y"] == pytest.approx([accuracy for _, accuracy in expected])
    assert traces["picked"]["x"] == [0.411]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"'"


def test_text_from_the_data_stays_text(tmp_path: Path) -> None:
    """Class names, notes and arguments come from folders and files that nobody checked."""
    clean = read_run(fabricate_run(tmp_path / "run"))
    story = evidence()
    for entry in (*story["baselines"], *story["tried"], *story["curves"], *story["space"]["choices"]):
        entry.update(dict.fromkeys(entry.keys() & {"name", "note", "what", "why"}, HOSTILE))
    story["search"]["strategy"] = story["tau"]["note"] = HOSTILE
    info = run_info(
        device={"cpu": HOSTILE}, versions={HOSTILE: HOSTILE}, plan={"stages": [{"name": HOSTILE, "seconds": 3}]}
    )
    info["data"] |= {"name": HOSTILE, "classes": [HOSTILE] * 10, "fingerprint": HOSTILE}
    info["arguments"]["data"] = HOSTILE
    dropped = ({"name": HOSTILE, "precision": HOSTILE, "reason": HOSTILE},)
    hostile = RunFiles(clean.path, info, clean.records, "m4-int8", dropped, story)
    before, after = outline(render(clean)), outline(render(hostile))
    assert after.scripts == before.scripts
    assert after.sources == before.sources
    assert HOSTILE in "".join(after.text)


@pytest.mark.parametrize("text", [None, 7, "", "not base64!", "QUJD", 'x" onload="alert(1)'], ids=repr)
def test_only_pngs_become_images(text: object) -> None:
    assert png_width(text) is None


def test_the_width_of_a_png_is_read() -> None:
    import numpy as np

    assert png_width(png(np.random.default_rng(0), side=48)) == 48


def _paths(value: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return []
    return [p for key, inner in value.items() for p in ((*prefix, key), *_paths(inner, (*prefix, key)))]


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_report_is_written_whatever_is_missing(data: st.DataObject) -> None:
    """Any part of run.json and evidence.json, and any metric of any record, may be absent or null."""
    whole = {
        "info": run_info(),
        "evidence": evidence(),
        "records": {str(i): {"metrics": dict(r.metrics)} for i, r in enumerate(front_records())},
    }
    paths = [p for p in _paths(whole) if len(p) > 1 and p[:2] != ("evidence", "confusion") and p[-2] != "records"]
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=12, unique=True)):
        parent = whole
        for key in path[:-1]:
            parent = parent.get(key) or {}  # type: ignore[assignment]
        if path[-1] not in parent:
            continue
        if path[0] != "records" and data.draw(st.booleans()):
            parent[path[-1]] = None  # type: ignore[assignment]
        else:
            del parent[path[-1]]
    records = []
    for i, record in enumerate(front_records()):
        value = record.to_dict() | {"metrics": (whole["records"].get(str(i)) or {}).get("metrics") or {}}
        records.append(type(record).from_dict(value))
    run = RunFiles(Path("run"), whole["info"], tuple(records), "m4-int8", (), whole["evidence"])
    outline(render(run))


def test_points_of_evidence_may_lack_fields(tmp_path: Path) -> None:
    story = copy.deepcopy(evidence())
    for name in ("baselines", "tried"):
        story[name] = [{}, *story[name]]
    story["search"]["history"] = [{}, {"latency_ms": 1.0}, {"accuracy_val": 0.5, "latency_ms": 0.0}]
    story["curves"] = [{}, {"name": "empty", "points": []}, {"points": [{"seconds": 1}, {"loss": 2.0}]}]
    story["mistakes"] = {"m4-int8/int8": [{}]}
    outline(render(RunFiles(tmp_path, run_info(), tuple(front_records()), "m4-int8", ({},), story)))


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_an_unfinished_run_says_so(tmp_path: Path, status: str) -> None:
    run = fabricate_run(tmp_path / "run", status=status)
    (run / "front.json").unlink()
    text = "".join(outline(write_report(run).read_text()).text)
    assert "No network yet" in text
    assert {"running": "still going on", "stopped": "stopped early", "failed": "failed before"}[status] in text


def test_many_classes_get_a_heat_map(tmp_path: Path) -> None:
    k = 40
    matrix = [[90 if i == j else (i + j) % 3 for j in range(k)] for i in range(k)]
    info = run_info()
    info["data"] |= {"classes": [f"class {i}" for i in range(k)]}
    run = RunFiles(tmp_path, info, tuple(front_records()), "m4-int8", (), {"confusion": {"m4-int8/int8": matrix}})
    assert "confusion" in figures(render(run))
    for row in confusion_figure(matrix, ["x"] * k)["data"][0]["z"]:
        assert sum(row) == pytest.approx(1)


def test_something_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        write_report(tmp_path / "nothing")
    with pytest.raises(InputError, match="is not a run"):
        write_report(tmp_path)
