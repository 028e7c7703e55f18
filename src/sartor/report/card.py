"""The model card that ships beside each network (Model Cards for Model Reporting, arXiv:1810.03993)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.records import Record
from sartor.report import story, units
from sartor.report.files import MODEL_FILES, arguments

_HOLDS = {
    "model.onnx": "the network; input `images` float32 `[n, C, H, W]`, output `logits` `[n, classes]`",
    "model.safetensors": "its weights, for going on in PyTorch",
    "arch.json": "its architecture",
    "card.md": "this page",
}


def _cell(text: Any) -> str:
    """Text that cannot break a Markdown table or start HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _rows(pairs: list[tuple[str, Any]], head: tuple[str, str]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {_cell(name)} | {_cell(value)} |" for name, value in pairs])


def _measured(record: Record, test_n: int | None) -> str:
    pairs: list[tuple[str, Any]] = []
    for name in units.METRICS:
        value = record.metrics.get(name)
        if value is None:
            continue
        text = units.write(name, value)
        if name == "accuracy_test" and test_n:
            low, high = story.interval(value, test_n)
            text += f" (95% interval {units.percent(low)} to {units.percent(high)}, {test_n:,} images)"
        pairs.append((units.METRICS[name][0], text))
    return _rows(pairs, ("measure", "value"))


def _data_lines(data: Mapping[str, Any]) -> str:
    classes = [_cell(c) for c in data.get("classes") or []]
    shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    splits = data.get("splits") or {}
    present = {name: part for name, part in splits.items() if part}
    parts = [f"{n} {part.get('n', 0):,}{' (made)' if part.get('made') else ''}" for n, part in present.items()]
    lines = [f"Trained and tested on **{_cell(data.get('name', 'unknown'))}**: {', '.join(parts) or 'splits unknown'}."]
    if classes:
        lines.append(f"It tells {len(classes)} classes apart: {shown}.")
    lines.append("Test images were used once, for the table above; they never took part in a choice.")
    return " ".join(lines)


def model_card(record: Record, run_info: Mapping[str, Any]) -> str:
    """The card of one front member as Markdown; ``run_info`` is run.json's content, any part of which may be absent."""
    data = run_info.get("data") or {}
    given = arguments(run_info)
    versions = ", ".join(f"{name} {version}" for name, version in (run_info.get("versions") or {}).items())
    device = run_info.get("device") or {}
    cpu = device.get("cpu") or device.get("cpu_model") or device.get("model") or "unknown processor"
    test_n = ((data.get("splits") or {}).get("test") or {}).get("n")
    where = f"{given.get('target', 'onnxruntime')}, batch 1, {given.get('threads', 1)} thread(s), {_cell(cpu)}"
    full, side = data.get("resolution", "R"), record.arch.get("resolution")
    smaller = "" if side in (None, full) else f" Then resize to the file's {side}×{side} (bilinear, antialiased)."
    arch = _rows([(name, f"`{option}`") for name, option in record.arch.items()], ("choice", "option"))
    files = "\n".join(f"- `{name}`: {_HOLDS[name]}" for name in MODEL_FILES)
    return f"""# {_cell(record.name)}

An image classifier ({_cell(record.precision)}) cut to fit by Sartor for
{_cell(data.get("name", "your data"))}.

## Measured on the exported file

{_measured(record, test_n)}

Latency: {where}; the median of repeated runs. On another device measure it again: `sartor measure .`

## Use

```console
sartor predict . photo.jpg
```

```python
from sartor.serve.predict import Classifier

for prediction in Classifier(".").predict(["photo.jpg"]):
    print(prediction.class_name, prediction.probability)
```

Without Sartor: decode to {full}×{full} (shorter side resized, centre crop), scale to [0, 1], subtract `mean`, divide by
`std`; both are in the file's metadata under `sartor`, with the class names.{smaller} Logits become probabilities
through softmax.

{files}

## Data

{_data_lines(data)}

## Limits

The probabilities are not calibrated. Images unlike the training images (another camera, other lighting, a class it was
not shown) get a confident answer too. Nothing here was tested for fairness or safety.

## Architecture `{record.arch.key}`

{arch}

## Provenance

- Made by: `{_cell(story.command(given))}`
- Seed: {_cell(run_info.get("seed", record.provenance.get("seed", "unknown")))}
- Versions: {_cell(versions or "unknown")}
- Data fingerprint: `{_cell(data.get("fingerprint", "unknown"))}`
"""
