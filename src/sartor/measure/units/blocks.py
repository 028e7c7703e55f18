"""A latency table of a space: every block that its archs are made of, timed once on a device.

FBNet (P060, arXiv:1812.03443 §3.3) and ProxylessNAS (P063, arXiv:1812.00332 §4.1) came with such tables, and without
what makes them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.targets.target import Target
from sartor.measure.units.split import Unit, units
from sartor.measure.units.table import call_ms, measured
from sartor.models.buildable.buildable import Buildable
from sartor.records import Arch, Option
from sartor.search.tables.lookup import Lookup
from sartor.space.choice import Choice
from sartor.space.space import Space


def block_table(problem: Buildable, target: Target) -> Lookup:
    """The table of ``problem``'s space on ``target`` in ``latency_ms``: an option costs what the units of a network
    with it take more than those of one with the choice's first option, all else being the first options. Units are
    timed by themselves, each different one once, however many networks have it.

    Exact where choices do not change each other's blocks, as in spaces of operators; where a width is chosen, which the
    next layer reads, a sum over choices is none, and :class:`sartor.measure.units.model.LatencyModel` sees the file.
    Raises InputError where the target refuses a unit.
    """
    space = problem.space
    wanted = {Arch(base): None for base in [_with(space, {})]}
    places: dict[tuple[str, Option], tuple[Arch, Arch]] = {}
    for choice in space.choices:
        held = _reached(space, choice)
        first = _with(space, {**held, choice.name: choice.options[0]})
        for option in choice.options:
            arch = _with(space, {**held, choice.name: option})
            places[choice.name, option] = arch, first
            wanted |= {arch: None, first: None}
    made = {arch: _units(problem, arch) for arch in wanted}
    times = measured([unit for network in made.values() for unit in network], target)
    lacking = [unit.key for network in made.values() for unit in network if unit.key not in times]
    if lacking:
        raise InputError(
            f"{target.name} cannot run the unit {lacking[0]}: choose another target, or a space without it"
        )
    ms = {arch: sum(times[unit.key] for unit in network) for arch, network in made.items()}
    parts: dict[str, dict[Option, float]] = {choice.name: {} for choice in space.choices}
    for (name, option), (arch, first) in places.items():
        parts[name][option] = ms[arch] - ms[first]
    return Lookup("latency_ms", parts, ms[_with(space, {})] + call_ms(target))


def _with(space: Space, held: Mapping[str, Option]) -> Arch:
    """The arch of first options, but for those ``held``."""
    return space.decide(lambda choice: held.get(choice.name, choice.options[0]))


def _reached(space: Space, choice: Choice) -> dict[str, Option]:
    """Options above ``choice`` with which it is there."""
    held: dict[str, Option] = {}
    while choice.when is not None:
        name, options = choice.when
        held[name] = options[0]
        choice = next(c for c in space.choices if c.name == name)
    return held


def _units(problem: Buildable, arch: Arch) -> tuple[Unit, ...]:
    inputs = problem.inputs(arch, 1)
    if len(inputs) != 1 or inputs[0].ndim != 4:
        raise InputError("a table is of networks that see images: profile files with sartor profile-device instead")
    _, channels, height, width = inputs[0].shape
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_onnx(problem.build(arch).eval(), (channels, height, width), file, draft=True)
        return units(file)
