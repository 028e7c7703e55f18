"""Settings of simulated targets: a name first, then ``key=value`` with units."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sartor.errors import InputError

_UNITS = {
    "hz": {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "bytes": {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30},
}


def split_settings(target: str, text: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The name and the settings in ``NAME,key=value,…``. Raises InputError for a key that is not known, or twice."""
    name, *rest = text.split(",")
    found: dict[str, str] = {}
    for part in rest:
        key, _, value = part.partition("=")
        if key not in known or not value or key in found:
            raise InputError(
                f"{target} has no setting {part!r}: choose from {', '.join(known)}, each once, as key=value"
            )
        found[key] = value
    return name, found


def in_range(what: str, text: str, kind: str, least: float, most: float) -> float:
    """A number with a unit of ``kind`` (``hz`` or ``bytes``). Raises InputError outside of ``least`` to ``most``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower())
    value = float(found[1]) * _UNITS[kind].get(found[2], math.nan) if found else math.nan
    if not least <= value <= most:
        units = ", ".join(filter(None, _UNITS[kind]))
        raise InputError(f"{what}={text} is not from {least:g} to {most:g} ({units})")
    return value
