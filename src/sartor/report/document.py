"""The shell of every page: one HTML file that needs nothing but itself, with a policy that forbids every request."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.report.page_style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def document(name: str, body: str, sections: Sequence[str], footer: str, scripts: str = "", style: str = "") -> str:
    """A page called ``name`` with links to those of ``sections`` that ``body`` has, and with ``style`` after
    the pages' own. All of it is HTML already."""
    links = "".join(f"<a href='#{part}'>{part}</a>" for part in sections if f"<section id={part}>" in body)
    return f"""<!doctype html>
<html lang=en>
<head>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<meta http-equiv=Content-Security-Policy content="{POLICY}">
<title>Sartor · {name}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<header class=top><div><b>Sartor</b> &nbsp;{name}</div><nav>{links}</nav></header>
<main><hr class=stitch>
{body}
</main>
<footer><hr class=stitch><p>{footer} This page makes no request to anywhere.</p></footer>
{scripts}
</body>
</html>
"""
