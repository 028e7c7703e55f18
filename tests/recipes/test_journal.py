"""The journal decides once, survives a cut-off line, and refuses a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.recipes.journal import Journal

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(decided=st.dictionaries(st.text(min_size=1), json_values, max_size=6))
def test_what_was_decided_is_read_back(tmp_path_factory: pytest.TempPathFactory, decided: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    first = Journal(path)
    for key, value in decided.items():
        first.once(key, lambda v=value: v)  # type: ignore[misc]

    def never() -> object:
        raise AssertionError("decided already")

    again = Journal(path)
    assert {key: again.once(key, never) for key in decided} == decided


def test_a_line_that_a_kill_cut_off_is_decided_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.once("a", lambda: 1)
    journal.once("b", lambda: 2)
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        resumed = Journal(path)
        assert resumed.once("a", lambda: -1) == 1
        assert resumed.once("b", lambda: 3) == 3
        assert Journal(path).once("b", lambda: 4) == 3


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"key": "a", "value": 1}\nnonsense\n{"key": "b", "value": 2}\n')
    with pytest.raises(InputError, match=r"line 2 is damaged"):
        Journal(path)
