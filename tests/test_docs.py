"""Whatever is shown is run: ``console`` and ``python`` fences are, in the order of the page; other commands must parse.

A ``console`` fence holds lines of ``$ command``; each must exit with 0. A page's ``python`` fences are one session.
``sh`` fences hold what cannot run here (installing, a folder of your photos): their ``sartor`` lines, and those in the
helps, are parsed with every option and value checked.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import sartor
from sartor.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = typer.main.get_command(app)
VERBS = COMMAND.commands  # type: ignore[attr-defined]


def fences(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each fence of a page, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def runnable(page: Path) -> bool:
    return any(language in ("console", "python") for language, _ in fences(page))


def shown() -> list[str]:
    """Every `sartor …` command line of the pages' fences and of the helps."""
    blocks = [text for page in PAGES for language, text in fences(page) if language in ("sh", "console")]
    helps = [COMMAND.help or "", *(verb.help or "" for verb in VERBS.values())]
    lines = [line for text in [*blocks, *helps] for line in text.splitlines()]
    commands = [re.sub(r"^\$ |^\.venv/bin/", "", line.strip()) for line in lines]
    return sorted({line.split("|")[0].strip() for line in commands if re.match(r"sartor [\w-]+ ", line)})


def test_something_is_shown() -> None:
    assert len(shown()) > 10
    assert {line.split()[1] for line in shown()} == set(VERBS)


@pytest.mark.parametrize("line", shown())
def test_command_line_parses(line: str) -> None:
    _, verb, *words = shlex.split(line, comments=True)
    VERBS[verb].make_context(verb, words)  # raises where a word is not one


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name)
@pytest.mark.heavy
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The `sartor` of this Python, wherever it is installed.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    session: dict[str, object] = {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    for language, text in fences(page):
        if language == "console":
            for line in text.splitlines():
                assert line.startswith("$ "), f"{page.name}: a console fence holds commands only, not {line!r}"
                command = shlex.split(line[2:], comments=True)
                outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
                assert outcome.returncode == 0, f"{line}\n{outcome.stderr}"
        elif language == "python":
            exec(compile(text, page.name, "exec"), session)


def test_reference_names_everything() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    for name, verb in VERBS.items():
        section = re.search(rf"^### {name}\n(.*?)(?=^##)", reference, flags=re.DOTALL | re.MULTILINE)
        assert section, f"the reference has no section {name}"
        for option in {option for parameter in verb.params for option in parameter.opts if option.startswith("--")}:
            assert option in section[1] or option in ("--debug", "--help"), f"the reference of {name} lacks {option}"
    for name in sartor.__all__:
        assert name.strip("_") in reference, f"the reference lacks sartor.{name}"


def test_readme_lists_the_source() -> None:
    listing = next(text for _, text in fences(ROOT / "README.md") if text.startswith("src/sartor/"))
    named = re.findall(r"^  ([\w./]+)", listing, flags=re.MULTILINE)
    there = [p for p in (ROOT / "src" / "sartor").iterdir() if p.name not in ("__init__.py", "__pycache__")]
    there = [p for p in there if p.suffix == ".py" or (p.is_dir() and list(p.glob("*.py")))]
    assert sorted(named) == sorted(p.name + "/" * p.is_dir() for p in there)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name} links to {link}"
