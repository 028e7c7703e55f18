"""The top of the report: the picked network in one line, one paragraph, one row of numbers."""

from __future__ import annotations

from html import escape

from sartor.records import Record
from sartor.report import story, units
from sartor.report.page import Page, precision_class

_UNFINISHED = {
    "running": "This run was still going on when the report was written: everything here is so far.",
    "stopped": "This run was stopped early: this is what there is so far. The same command with --resume goes on.",
    "failed": "This run failed before its end: everything here is what it had until then.",
}


_RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def headline(page: Page) -> str:
    """What came out, how it stands against the baselines, and the command that takes it."""
    run, picked = page.run, page.run.picked_record
    banner = f"<p class=banner>{_UNFINISHED[run.info['status']]}</p>" if run.info.get("status") in _UNFINISHED else ""
    if picked is None:
        return f"<section class=result id=result>{banner}<h1>No network yet.</h1></section>"
    return f"""<section class=result id=result>{banner}
<h1>{_title(page, picked)}</h1>
<p class=lead>{_lead(page, picked)}</p>
{_facts(page, picked)}
<pre><code>sartor pick {escape(run.path.name)}{_pick_limit(picked)} -o model
sartor predict model photo.jpg</code></pre>
<p class=note>The files of this network lie in <code class=inline>models/{escape(picked.name)}/</code>: ONNX, weights,
architecture and a model card.</p></section>"""


def _title(page: Page, picked: Record) -> str:
    metrics, css = picked.metrics, precision_class(picked.precision)
    if page.metric not in metrics or "latency_ms" not in metrics:
        return f"{escape(picked.name)} is picked."
    right = units.percent(metrics[page.metric])
    return f"<em class={css}>{right}</em> right, in <em class={css}>{units.ms(metrics['latency_ms'])}</em> an image."


def _pick_limit(picked: Record) -> str:
    """A limit the picked network is within: its latency rounded up by 2%, so that reading it rounded does no harm."""
    latency = picked.metrics.get("latency_ms")
    return f" --max-latency {units.plain(float(f'{latency * 1.02:.3g}'))}ms" if latency else ""


def _lead(page: Page, picked: Record) -> str:
    """Which network, on what, how it was measured, and how it stands against the baselines."""
    target, threads = page.arguments.get("target", "onnxruntime"), page.arguments.get("threads", 1)
    split = "test" if page.metric == "accuracy_test" else "validation"
    images = f"{page.judged_n:,} {split} images" if page.judged_n else f"the {split} images"
    data = escape(str(page.data.get("name", "the data")))
    runtime = escape(_RUNTIMES.get(str(target), str(target)))
    where = f"{runtime}, one image at a time on {escape(str(threads))} thread{'' if threads == 1 else 's'}"
    mine = story.points_of([picked], page.metric)
    sentences = story.compare(mine[0], page.baselines, page.judged_n) if mine else []
    if mine and picked.name == "largest":
        sentences = story.itself(mine[0], story.points_of(page.run.records, page.metric))
    return (
        f"<b>{escape(picked.name)}</b> ({escape(picked.precision)}), on {images} of {data}, as an exported file run by "
        f"{where}. {escape(' '.join(sentences)) or 'No baselines were measured in this run.'}"
    )


def _facts(page: Page, picked: Record) -> str:
    cells = []
    for name in (page.metric, "latency_ms", "size_bytes", "macs", "params", "peak_memory_bytes"):
        value = picked.metrics.get(name)
        if value is not None:
            below = _below(page, picked, name, value)
            cells.append(f"<div><dt>{units.METRICS[name][0]}</dt><dd>{units.write(name, value)}{below}</dd></div>")
    return f"<dl class=facts>{''.join(cells)}</dl>" if cells else ""


def _below(page: Page, picked: Record, name: str, value: float) -> str:
    """What stands below a number: its budget as a meter, its interval, or its tail."""
    limit = page.arguments.get(units.BUDGETS.get(name, ""))
    if limit:
        css, word = ("meter over", "over the budget of") if value > limit else ("meter", "of at most")
        bar = f"<span class='{css}'><i style='width:{min(100.0, 100 * value / limit):.1f}%'></i></span>"
        return f"{bar}<small>{word} {units.limit(name, limit)}</small>"
    if name == page.metric and page.judged_n:
        low, high = story.interval(value, page.judged_n)
        return f"<small>95% interval {units.percent(low)} to {units.percent(high)}</small>"
    if name == "latency_ms" and "latency_p95_ms" in picked.metrics:
        return f"<small>95th percentile {units.ms(picked.metrics['latency_p95_ms'])}</small>"
    return ""
