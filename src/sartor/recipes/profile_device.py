"""Profile a device: time networks and their parts on it, and write down what predicts any other network's latency."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.device import fingerprint, versions
from sartor.measure.file_of import onnx_of
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Target
from sartor.measure.trial import admit
from sartor.measure.units.model import LatencyModel
from sartor.measure.units.rows import DeviceProfile, NetworkRow, counted, described, read_profile
from sartor.measure.units.split import Unit, units
from sartor.measure.units.table import call_ms, measured
from sartor.models import build, input_shape
from sartor.recipes.voice import Tick, Voice
from sartor.records import Arch
from sartor.space import conv_space

TOGETHER = 10
"""Networks that are timed in turns."""
RUNS, MIN_TIME_S, BUDGET_S = 100, 0.1, 1.0
FEWEST = 5
"""Networks from which a device can be told from another."""
STEP = 64
"""Units between two writings of the file: what a killed run loses."""


def profile_device(
    out: str | Path,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    networks: int = 100,
    size: int = 32,
    channels: int = 3,
    classes: int = 10,
    like: Sequence[str] = (),
    elsewhere: str | Path | None = None,
    seed: int = 0,
    verbosity: int = 1,
) -> DeviceProfile:
    """Measure ``target`` and write ``out``, from which ``sartor.measure.units.model.LatencyModel`` predicts latencies.

    ``networks`` random ones of the space that ``fit`` searches for images of ``channels`` x ``size`` x ``size``, and
    those that ``like`` names (an .onnx file, ``timm:NAME``, ...), are timed whole; then every different unit of them by
    itself. With ``elsewhere``, a profile of another device, units' times are taken from there, and only networks are
    timed: ten tell what this device has of its own.

    A file that is there already, of the same target on the same device, is gone on with: what it holds is not timed
    again. Raises InputError for arguments that make no sense and a target that is
    not there, WriteError.
    """
    out = Path(out)
    if networks < FEWEST:
        raise InputError(f"at least {FEWEST} networks are needed to profile a device, not {networks}")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: name a file in a folder that is there")
    runner, voice = open_target(target, threads), Voice(verbosity)
    known = _known(out, runner)
    given = None if elsewhere is None else read_profile(Path(elsewhere))
    with tempfile.TemporaryDirectory() as folder:
        files = list(_files(Path(folder), networks, size, channels, classes, seed, like))
        parts = [units(file) for file in files]
        rows = described([unit for network in parts for unit in network], {})
        held = known.units if known is not None else given.units if given is not None else {}
        rows |= {key: row for key, row in held.items() if key in rows or given is not None}
        done = [] if known is None else list(known.networks)
        profile = DeviceProfile(
            runner.name,
            runner.threads,
            call_ms(runner) if known is None else known.call_ms,
            rows,
            tuple(done),
            fingerprint(),
            versions(),
            given is not None,
        )
        with voice.stage(f"time {len(files)} networks") as tick:
            for start in range(len(done), len(files), TOGETHER):
                part = files[start : start + TOGETHER]
                times = runner.latencies(part, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
                done += [
                    NetworkRow(counted(network), latency.median_ms)
                    for network, latency in zip(parts[start : start + TOGETHER], times, strict=True)
                ]
                profile = replace(profile, networks=tuple(done))
                profile.write(out)
                tick(len(done) / len(files), "")
        if given is None:
            different = list({unit.key: unit for network in parts for unit in network}.values())
            with voice.stage(f"time their {len(different)} different parts") as tick:
                profile = _with_units(profile, different, runner, out, tick)
    with voice.stage("learn from them"):
        profile = replace(profile, calibration=dict(LatencyModel(profile).calibration))
    profile.write(out)
    return profile


def _with_units(
    profile: DeviceProfile, different: Sequence[Unit], runner: Target, out: Path, tick: Tick
) -> DeviceProfile:
    missing = [unit for unit in different if profile.units[unit.key].ms is None]
    for start in range(0, len(missing), STEP):
        times = measured(missing[start : start + STEP], runner)
        timed = {key: replace(profile.units[key], ms=ms) for key, ms in times.items()}
        profile = replace(profile, units={**profile.units, **timed})
        profile.write(out)
        tick(1 - max(0, len(missing) - start - STEP) / len(different), "")
    return profile


def _known(out: Path, runner: Target) -> DeviceProfile | None:
    """What ``out`` holds already. Raises InputError where it is of something else."""
    if not out.exists():
        return None
    known = read_profile(out)
    if (known.target, known.threads, known.device.get("cpu")) != (runner.name, runner.threads, fingerprint()["cpu"]):
        raise InputError(f"{out} is the profile of another device or target: name a new file")
    return known


def _files(
    folder: Path, networks: int, size: int, channels: int, classes: int, seed: int, like: Sequence[str]
) -> Iterator[Path]:
    for place, arch in enumerate(_archs(networks, size, seed)):
        file = folder / f"{place}.onnx"
        network = build(arch, channels=channels, classes=classes, full_resolution=size)
        export_onnx(network, input_shape(arch, channels), file, draft=True)
        yield file
    for place, spec in enumerate(like):
        file = folder / f"like{place}.onnx"
        with onnx_of(spec) as found:
            admit(found)  # its parts are told by running it
            write_atomic(file, found.read_bytes())
        yield file


def _archs(n: int, size: int, seed: int) -> list[Arch]:
    """Different archs of the space of ``fit``, drawn evenly."""
    space, rng = conv_space(size), random.Random(f"profile {seed}")
    if n > space.count():
        raise InputError(f"the space for images of {size} pixels has {space.count():,} networks, not {n:,}")
    found: dict[Arch, None] = {}
    while len(found) < n:
        found.setdefault(space.sample(rng))
    return list(found)
