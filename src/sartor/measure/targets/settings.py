"""What follows a target's name: ``key=value,key=value``."""

from __future__ import annotations

from collections.abc import Mapping

from sartor.errors import InputError


def read_settings(name: str, text: str, known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The settings in ``text`` for the target ``name``. ``known``: each key's values, the default first.

    Raises InputError.
    """
    found = {key: values[0] for key, values in known.items()}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or value not in known.get(key, ()):
            offered = ", ".join(f"{key}={'|'.join(values)}" for key, values in known.items())
            raise InputError(f"{name} has no setting {part!r}: choose from {offered or 'none: it has no settings'}")
        found[key] = value
    return found


def with_settings(name: str, own: Mapping[str, str], known: Mapping[str, tuple[str, ...]]) -> str:
    """``name`` and those of its ``own`` settings that are not the default: what ``open_target`` makes it of again."""
    changed = ",".join(f"{key}={value}" for key, value in own.items() if value != known[key][0])
    return f"{name}:{changed}" if changed else name
