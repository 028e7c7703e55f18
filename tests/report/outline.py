"""What a page of HTML holds, for tests of pages."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "hr", "img", "input", "line", "path", "circle"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects ids, links, attributes that load, and text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.sources: list[str] = []
        self.scripts = 0
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.targets.append(value or "")
            if name in ("src", "srcset", "data", "action", "poster"):
                self.sources.append(value or "")
            assert not name.startswith("on"), f"an event handler got into the page: {name}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    # Plotly's own source (5 MB, the first script) is not under test and slow to scan.
    start = page.find("<script>")
    end = page.find("</script>", start)
    parser.feed(page if start < 0 else page[: start + len("<script>")] + page[end:])
    parser.close()
    assert parser.open == []
    return parser


def figures(page: str) -> dict[str, Any]:
    found = re.search(r"<script type=application/json id=figures>(.*?)</script>", page)
    assert found is not None
    return json.loads(found[1])
