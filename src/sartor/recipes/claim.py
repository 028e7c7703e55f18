"""Whose a run directory is: begun with which arguments, on which data, by which version; and how far it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sartor import disk
from sartor.data import Dataset
from sartor.errors import InputError
from sartor.measure.device import fingerprint, versions
from sartor.recipes.job import Job

FORMAT = 1


def same_run(path: Path, job: Job) -> bool:
    """Whether ``path`` holds a run that was begun with the same arguments; InputError where it holds anything else."""
    if not (path / "run.json").exists():
        own = (".lock", "journal.jsonl")
        strangers = [p.name for p in path.iterdir() if p.name not in own and not disk.is_part(p)]
        if strangers:
            raise InputError(f"{path} holds other files ({sorted(strangers)[0]}, …): choose an empty or a new --out")
        return False
    info = read_info(path)
    differences = job.differences(info.get("arguments", {}))
    if differences:
        raise InputError(
            f"{path} holds a run with other arguments ({', '.join(differences)} differ): "
            "repeat its arguments to go on, or choose another --out"
        )
    if info.get("sartor") != versions()["sartor"]:
        raise InputError(
            f"{path} was made by Sartor {info.get('sartor')}: go on with that version or choose another --out"
        )
    return True


def begin(path: Path, job: Job) -> None:
    """Write the first run.json: from here on the folder is this job's."""
    info = {
        "format": FORMAT,
        "sartor": versions()["sartor"],
        "status": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "arguments": job.to_dict(),
        "versions": versions(),
        "device": fingerprint(),
        "seed": job.seed,
    }
    disk.write_json(path / "run.json", info)


def read_info(path: Path) -> dict[str, Any]:
    """run.json. Raises InputError when it is missing, damaged or of another format."""
    info = disk.read_json(path / "run.json")
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise InputError(f"{path} holds a run of another format: choose another --out")
    return info


def note(path: Path, **entries: Any) -> None:
    """Update run.json. The status of a run that goes on is running again."""
    info = read_info(path)
    info["status"] = "running"
    info.pop("reason", None)
    disk.write_json(path / "run.json", {**info, **entries})


def check_same_data(path: Path, dataset: Dataset) -> None:
    """Raises InputError when the run was begun on other images; one that was killed before it had any goes on."""
    held = read_info(path).get("data")
    if held and held.get("fingerprint") != dataset.fingerprint:
        raise InputError(f"{path} holds a run on other data than {dataset.name} is now: choose another --out")


def about(dataset: Dataset) -> dict[str, Any]:
    """What run.json says of the data."""
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "channels": dataset.channels,
        "resolution": dataset.resolution,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "fingerprint": dataset.fingerprint,
        "skipped": list(dataset.skipped),
        "splits": {k: dict(v) for k, v in dataset.splits.items()},
    }
