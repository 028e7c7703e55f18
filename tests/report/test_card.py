"""The model card: complete, safe, and the code in it runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from report.fabricated import CLASSES, fabricate_run, front_records, run_info
from sartor.records import Arch, Record
from sartor.report.card import model_card


def test_the_card_holds_the_numbers() -> None:
    card = model_card(front_records()[-1], run_info())
    for said in ("# m4", "90.4%", "89.8% to 91.0%", "0.968 ms", "61.4 M", "2.84 MB", "An ordinary processor", *CLASSES):
        assert said in card
    assert "sartor fit cifar10 --max-latency 0.5ms" in card


def test_its_code_runs_where_the_card_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fabricate_run(tmp_path / "run") / "models" / "m1"
    Image.fromarray(np.full((20, 30, 3), (200, 20, 10), np.uint8)).save(folder / "photo.jpg")
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "card.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "card.md", "exec"), {})
    name, probability = capsys.readouterr().out.split()
    assert name == "red"
    assert 1 / 3 < float(probability) <= 1


def test_a_card_needs_nothing_but_a_record() -> None:
    assert "# bare" in model_card(Record("bare", Arch({"d": 1})), {})


def test_class_names_cannot_break_out() -> None:
    info = run_info()
    info["data"] |= {"name": "<script>x</script> | y", "classes": ["<img src=x>", "a|b"]}
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(model_card(front_records()[0], info))
    assert "<script" not in html
    assert "<img" not in html
