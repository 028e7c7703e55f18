"""What the verbs print: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from sartor.measure.units.rows import DeviceProfile
    from sartor.recipes.prune import Pruned
    from sartor.recipes.run import Member, Run
    from sartor.search.tables import Table as Searched
    from sartor.systems import System

T = TypeVar("T")

STEADY = 1.08
"""Beyond this, a machine's pace changed while it was measured; as ``measure.timing`` has it, which takes NumPy."""


def fail(message: str) -> None:
    """One line on stderr, whatever is in the message."""
    print("error: " + " ".join(message.split()), file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


def print_rich(renderable: Any) -> None:
    """Print with Rich. Into a pipe Rich would assume 80 columns and cut names short: give it room instead."""
    from rich.console import Console

    roomy = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 500
    Console(width=roomy, highlight=False).print(renderable)


def table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*columns, box=SIMPLE_HEAD, pad_edge=False)


def print_front(run: Run, as_json: bool) -> None:
    """The front, what was dropped and why, and the one command to pick. Raises InputError while there is no front."""
    picked = run.picked.record
    if as_json:
        front: dict[str, Any] = {"run": str(run.path), "status": run.info.get("status"), "picked": picked.name}
        front["front"] = [record.to_dict() for record in run.front]
        front["dropped"] = [dict(entry) for entry in run.files.dropped]
        print_json(front)
        return
    from sartor.report import units
    from sartor.report.table import front_table

    print_rich(front_table(run.front, picked=picked.name))
    for entry in run.files.dropped:
        print(f"dropped {entry['name']} ({entry['precision']}): {entry['reason']}")
    print(f"report:   {run.path / 'report.html'}")
    # Rounded up by up to 5%, so that the command shown does pick this member.
    limit = units.plain(float(f"{picked.metrics['latency_ms'] * 1.05:.2g}"))
    out = shlex.quote(f"{run.path.name}-model")
    print(f"pick one: sartor pick {shlex.quote(str(run.path))} --max-latency {limit}ms -o {out}")


SLOWEST = 20
"""Layers that a terminal has room for."""


def print_measured(measured: Mapping[str, Any], as_json: bool) -> None:
    """What was counted and timed: the slowest layers, then the whole."""
    if as_json:
        print_json(measured)
        return
    from sartor.report import units

    write: dict[str, Callable[[Any], str]] = {
        "params": units.count,
        "macs": units.count,
        "peak_activation_bytes": units.size,
        "planned_activation_bytes": units.size,
        "size_bytes": units.size,
        "elementwise": units.count,
    }
    write |= dict.fromkeys(("read_bytes", "written_bytes", "weight_read_bytes"), units.size)
    write |= {"latency_ms": units.ms, "latency_p95_ms": units.ms, "activation_bytes": units.size}
    write |= {"known": units.percent}
    text = lambda name, value: "–" if value is None else write.get(name, str)(value)
    _print_layers(measured)
    for name, value in measured.items():
        if name == "latency_ci_ms":
            print(f"{'between':16} {units.ms(value[0])} and {units.ms(value[1])} (95 %)")
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool) and name != "untold":
            print(f"{name.removesuffix('_bytes').removesuffix('_ms').replace('_', ' '):16} {text(name, value)}")
    if "untold" in measured:
        print(f"{'layers':16} {measured['untold']}")
    for line in measured.get("misfits", ()):
        print(f"{'does not fit':16} {line}")
    patches = measured.get("patches")
    if patches and "because" in patches:
        print(f"{'patch by patch':16} not: {patches['because']}")
    elif patches:
        tail = "fits" if patches["fits"] else "does not fit either"
        print(
            f"{'patch by patch':16} {patches['peak_activation_bytes']:,} bytes with {patches['overhead']:.1%} more "
            f"multiply-accumulates, {units.ms(patches['latency_ms'])}: {tail} (setting patches=on)"
        )
    if measured.get("cached"):
        print(f"{'':16} as it was timed before: --fresh times it anew")
    if "lint" in measured:
        print_lint(measured["lint"])
    _print_pace(measured)


def _print_pace(measured: Mapping[str, Any]) -> None:
    """What makes times less than they look."""
    timing = measured.get("timing", {})
    if timing.get("disturbed"):
        print("the machine never came to rest: measure again when it is quiet")
    if timing and not 1 / STEADY <= timing["drift"] <= STEADY:
        change = "slower" if timing["drift"] > 1 else "faster"
        print(f"the machine became {abs(timing['drift'] - 1):.0%} {change} on the way: it throttles, or is shared")


def print_compared(found: Mapping[str, Any], as_json: bool) -> None:
    """Networks side by side: what each takes, and how much that is of the first's."""
    if as_json:
        print_json(found)
        return
    from sartor.report import units

    models, ratios = found["models"], found["ratios"]
    write = {"latency_ms": units.ms, "params": units.count, "macs": units.count, "elementwise": units.count}
    heads = [head for model in models[1:] for head in (model["model"], "of the first")]
    rows = table("", models[0]["model"], *heads)
    for name in (name for name in ratios[0] if name in models[0] and name != "model"):
        cells = [write.get(name, units.size)(models[0][name])]
        for model, ratio in zip(models[1:], ratios, strict=True):
            share = "–" if ratio[name] is None else f"{ratio[name]:.3f}"
            cells += [write.get(name, units.size)(model[name]), share]
        rows.add_row(name.removesuffix("_bytes").removesuffix("_ms").replace("_", " "), *cells)
    print_rich(rows)
    for ratio in ratios:
        low, high = ratio["latency_ci"] or (0, 0)
        if low < high:
            print(f"{ratio['model']} takes between {low:.3f} and {high:.3f} of the time of {models[0]['model']}")
    for model in models:
        _print_pace(model)


def _print_layers(measured: Mapping[str, Any]) -> None:
    """The slowest layers, with what bounds them, under the roof; or, where none was timed, what was counted."""
    from sartor.report import units

    if not measured.get("layers"):
        rows = table("module", "kind", "MACs", "params", "output")
        for module in measured["modules"]:
            shape = "x".join(map(str, module["output_shape"]))
            rows.add_row(
                module["name"], module["kind"], units.count(module["macs"]), units.count(module["params"]), shape
            )
        print_rich(rows)
        return
    slowest = sorted(measured["layers"], key=lambda layer: layer["time_ms"], reverse=True)
    rows = table("slowest layers", "runs", "output", "MACs", "moves", "time", "share", "bound by", "of the roof")
    for layer in slowest[:SLOWEST]:
        reached = units.percent(layer["least_ms"] / layer["time_ms"]) if layer["time_ms"] else "–"
        rows.add_row(
            layer["name"], layer["operator"], "x".join(map(str, layer["output_shape"])), units.count(layer["macs"]),
            units.size(layer["bytes"]), units.ms(layer["time_ms"]), units.percent(layer["share"]), layer["bound"],
            reached,
        )  # fmt: skip
    print_rich(rows)
    if rest := slowest[SLOWEST:]:
        print(
            f"{len(rest)} layers more take {units.percent(sum(layer['share'] for layer in rest))}: --json has them all"
        )
    shares: dict[str, float] = {}
    for layer in slowest:
        shares[layer["bound"]] = shares.get(layer["bound"], 0.0) + layer["share"]
    said = ", ".join(f"{bound} {units.percent(share)}" for bound, share in sorted(shares.items(), key=lambda x: -x[1]))
    print(f"{'bound by':16} {said}")
    roof = measured["roof"]
    print(f"{'roof':16} {roof['peak_macs_per_s'] / 1e9:.1f} GMAC/s and {roof['bytes_per_s'] / 1e9:.1f} GB/s")


def print_lint(lint: Mapping[str, Any]) -> None:
    """Which sizes are beside a step of the target's kernels, which pairs of layers were timed as one, what pays."""
    from sartor.report import units

    timed = lambda found: f"{units.ms(found['latency_ms'])} beside {units.ms(found['before_ms'])}"
    shapes, fusing = lint["shapes"], lint["fusing"]
    for step in (shapes or {}).get("steps", ()):
        if step["step"] > 1:
            print(f"{'step':16} {step['kind']}, {step['side']}: {step['step']} ({step['lost']:.0%} is lost beside it)")
    if misfits := (shapes or {}).get("misfits"):
        rows = table("group", "channels", "step", "tried", "params", "time", "before", "pays")
        for misfit in misfits:
            for tried in misfit["tried"]:
                change = tried["params"] / shapes["params"] - 1
                size = f"{misfit['size']} → {tried['sizes'][misfit['group']]}"
                times = (units.ms(tried["latency_ms"]), units.ms(tried["before_ms"]))
                row = (misfit["group"], str(misfit["channels"]), str(misfit["step"]), size, f"{change:+.1%}")
                rows.add_row(*row, *times, "yes" if tried["pays"] else "no")
        print_rich(rows)
    if shapes is None:
        print("sizes: those of a file are given; name the model that it is made of (file.py:function, timm:NAME)")
    elif shapes["suggestion"] is None:
        print(f"sizes: none with {shapes['within']:.0%} more or fewer parameters measured faster")
    else:
        best = shapes["suggestion"]
        sizes = ", ".join(f"{name} {size}" for name, size in best["sizes"].items())
        print(f"sizes: {sizes}: {timed(best)}, parameters {best['params'] / shapes['params'] - 1:+.1%}")
    if fusing["pairs"]:
        rows = table("pair", "channels", "pixels", "kernel", "MACs", "fused", "time", "fused time", "as it is")
        for pair in fusing["pairs"]:
            cells = [pair["name"], *("x".join(map(str, pair[name])) for name in ("channels", "pixels"))]
            cells += [str(pair["kernel"]), units.count(pair["macs"]), units.count(pair["fused_macs"])]
            rows.add_row(
                *cells, units.ms(pair["pair_ms"]), units.ms(pair["fused_ms"]), "yes" if pair["exact"] else "no"
            )
        print_rich(rows)
        faster = sum(pair["faster"] for pair in fusing["pairs"])
        ends = f": {timed(fusing)} in the network" if faster else ""
        said = " (pays)" if fusing["pays"] else " (does not pay)" if faster else ""
        print(f"pairs: {faster} of {len(fusing['pairs'])} are faster as one full convolution{ends}{said}")


def print_profile(profile: DeviceProfile, out: Path, as_json: bool) -> None:
    """What a profile holds, and how far off it is for networks that it has not seen whole."""
    from sartor.measure.units.model import LatencyModel

    said = LatencyModel(profile).calibration
    found = {
        "profile": str(out),
        "target": profile.target,
        "threads": profile.threads,
        "networks": len(profile.networks),
        "units": sum(row.ms is not None for row in profile.units.values()),
        **said,
    }
    if as_json:
        print_json(found)
        return
    from sartor.report import units

    print(f"{found['networks']} networks and {found['units']} different parts of {profile.target}")
    print(
        f"networks left out, a fifth at a time: {units.percent(said['within_5'])} within 5 %, "
        f"{units.percent(said['within_10'])} within 10 %, rank correlation {said['spearman']:.3f}"
    )
    print(f"use it:  sartor fit DATA --latency-model {shlex.quote(str(out))}")


def print_cuts(cuts: Mapping[str, Any], as_json: bool) -> None:
    """What can be cut: the layers, then the groups, then what stays whole and why."""
    if as_json:
        print_json(cuts)
        return
    from sartor.report import units

    rows = table("layer", "kind", "shape", "params", "can go", "with", "stays")
    for layer in cuts["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        share = units.percent(layer["share"])
        held = layer["groups"]
        more = f" and {len(held) - 2} more" if len(held) > 2 else ""
        rows.add_row(
            layer["name"], layer["kind"], shape, units.count(layer["params"]), share,
            ", ".join(held[:2]) + more, "; ".join(layer["stays"][:2]),
        )  # fmt: skip
    print_rich(rows)
    groups = table("group", "entries", "of", "tensors", "params an entry", "MACs an entry")
    for group in cuts["groups"]:
        groups.add_row(
            group["name"], str(group["size"]), str(group["granularity"]), str(group["tensors"]),
            units.count(group["params"]), units.count(group["macs"]),
        )  # fmt: skip
    print_rich(groups)
    for name, title in (("blocks", "can go whole"), ("frozen", "not followed")):
        for entry in cuts[name]:
            print(f"{title}: {entry}")
    for name in ("params", "macs"):
        least = cuts[f"least_{name}"]
        print(f"{name:8} {units.count(cuts[name])}, {units.count(least)} with one entry of every group")


def print_pruned(pruned: Pruned, as_json: bool) -> None:
    """The network before and after, and what to do with it."""
    if as_json:
        print_json(pruned.to_dict())
        return
    from sartor.report import units

    write: dict[str, Callable[[Any], str]] = {
        "params": units.count, "macs": units.count, "latency_ms": units.ms, "size_bytes": units.size,
        "peak_memory_bytes": units.size, "accuracy_val": units.percent, "accuracy_test": units.percent,
    }  # fmt: skip
    rows = table("", "before", "after", "ratio")
    for name, form in write.items():
        if name in pruned.after:
            before, after = pruned.before[name], pruned.after[name]
            ratio = "" if name.startswith("accuracy") else f"{after / before:.2f}"
            rows.add_row(
                name.removesuffix("_bytes").removesuffix("_ms").replace("_", " "), form(before), form(after), ratio
            )
    print_rich(rows)
    cut = sorted(pruned.kept.items(), key=lambda item: item[1][0] / item[1][1])
    if cut:
        print("cut most: " + ", ".join(f"{name} {n} of {size}" for name, (n, size) in cut[:5]))
    if pruned.without:
        print(f"gone whole: {', '.join(pruned.without)}")
    undone = sum(not entry.kept for entry in pruned.tried)
    if pruned.tried:
        print(f"{len(pruned.tried)} cuts measured, {undone} undone or left for a better one")
    print(f"the network is in {pruned.path}")


def print_member(member: Member, as_json: bool) -> None:
    """A picked member, where its files are, and how to use them."""
    if as_json:
        print_json({"path": str(member.path), **member.record.to_dict()})
        return
    from sartor.report.table import front_table

    print_rich(front_table([member.record]))
    print(f"{member.record.name} is in {member.path}")
    print(f"use it: sartor predict {shlex.quote(str(member.path))} FILES…")


def with_progress(items: Iterable[T], total: int) -> Iterator[T]:
    """``items``, of which there are ``total``, under a bar that says how long the rest takes."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, "", total, console=console, transient=True, disable=not console.is_terminal)


def print_contest(searched: Searched, lines: Sequence[Mapping[str, Any]]) -> None:
    """Strategies side by side, the one that needed the fewest evaluations first."""
    from sartor.report.audit import said_of

    if searched.note:
        print(searched.note)
    places = list(lines[0]["regret"])
    volumes = "hypervolume" in lines[0]
    wanted = searched.best + (-searched.near if searched.verdict.maximise else searched.near)
    columns = [f"regret at {place}" for place in places] + [f"front at {p}" for p in places if volumes]
    tested = any(line["beside_random"] for line in lines)
    beside = [f"beside random at {places[-1]}"] if tested else []
    drawn = table("strategy", f"evaluations to {wanted:.4g}", "reached", *columns, *beside, "ms each")

    def order(line: Mapping[str, Any]) -> tuple[float, float]:
        return line["near"]["median"] or float("inf"), line["regret"][places[-1]]

    for line in sorted(lines, key=order):
        near = line["near"]
        middle, low, high = ("never" if near[k] is None else str(near[k]) for k in ("median", "low", "high"))
        cells = [f"{line['regret'][place]:.3f}" for place in places]
        cells += [f"{100 * line['hypervolume'][place]:.2f} %" for place in places if volumes]
        spread = middle if middle == "never" else f"{middle} ({low} to {high})"
        reached = f"{near['reached']} of {line['seeds']}"
        cells += [said_of(line["beside_random"])] if tested else []
        drawn.add_row(line["strategy"], spread, reached, *cells, f"{line['ms_an_evaluation']:.2f}")
    print(f"{searched.name}: {len(searched.rows):,} archs, {searched.verdict.metric} is the verdict")
    print_rich(drawn)
    tests = [line["beside_random"] for line in lines if line["beside_random"]]
    if any(test["verdict"] == "too few seeds" for test in tests):
        from sartor.search.audit.significance import seeds_needed

        print(f"too few seeds to tell anything from luck: give --seeds {seeds_needed(len(tests))} or more")


def print_audit(found: Mapping[str, Any]) -> None:
    """Whether searches were worth it, on one page."""
    from sartor.report.audit import terminal_page

    for part in terminal_page(found):
        print_rich(part)


def print_systems(systems: Sequence[System], as_json: bool) -> None:
    """The table of systems, and how many of them work."""
    if as_json:
        print_json([asdict(system) for system in systems])
        return
    rows = table("id", "system", "kind", "where", "test")
    for system in systems:
        rows.add_row(system.id, system.title, system.kind, system.where or "open", system.test)
    print_rich(rows)
    print(f"{sum(system.works for system in systems)} of these {len(systems)} systems work")
