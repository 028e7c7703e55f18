"""A model that is asked: what it is told, what of its answers counts, and that a search with it can be repeated."""

from __future__ import annotations

import json
import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.strategy import CONDITIONAL, StrategySuite, evaluate, history_of
from sartor.errors import InputError, WriteError
from sartor.records import Arch, Record
from sartor.search import run
from sartor.search.methods.proposer import parsed, prompt, proposer
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.tables import open_known
from sartor.search.transcript import Transcript
from sartor.space.choice import Choice
from sartor.space.space import Space

SPACE = Space((Choice("op", ("a", "b")), Choice("kernel", (3, 5), when=("op", ("b",))), Choice("se", (False, True))))
ACC = Objective("acc", maximise=True)


def reader(text: str) -> str:
    """What a simple-minded model does: it reads the choices and the best configurations in the prompt, and answers with
    those in which one option is another, in an order that the prompt decides."""
    wanted = int(re.search(r"(\d+) objects", text)[1])
    choices = {}
    for name, options in re.findall(r'^- ("[^"]+"): ([^{\n]*?)(?:, only where.*)?$', text, re.MULTILINE):
        choices[json.loads(name)] = json.loads(f"[{options}]")
    told = [json.loads(line) for line in re.findall(r"^- (\{.*?\}): ", text, re.MULTILINE)]
    rng = random.Random(text)
    if not told:
        return json.dumps([{name: rng.choice(options) for name, options in choices.items()} for _ in range(wanted)])
    changed = []
    for _ in range(3 * wanted):
        arch, name = dict(rng.choice(told[:3])), rng.choice(list(choices))
        arch[name] = rng.choice(choices[name])
        changed.append(arch)
    return f"Near the best it is good:\n```json\n{json.dumps(changed)}\n```"


class TestProposerWithAReader(StrategySuite):
    strategy = staticmethod(partial(proposer, ask=reader))


class TestProposerWithoutAWord(StrategySuite):
    strategy = staticmethod(partial(proposer, ask=lambda text: "I would rather not say."))


def test_the_reader_reads_every_choice():
    text = prompt(CONDITIONAL, history_of(CONDITIONAL, 3), 2, ACCURACY_LATENCY)
    archs, _ = parsed(reader(text), CONDITIONAL, set())
    assert archs


def test_a_prompt_tells_all_that_is_to_be_known():
    history = [
        Record("a", SPACE.canonical({"op": "b", "kernel": 5, "se": True}), metrics={"acc": 0.5}),
        Record("b", SPACE.canonical({"op": "a", "se": True}), metrics={"acc": 0.75}),
        Record("c", SPACE.canonical({"op": "a", "se": False})),
    ]
    text = prompt(SPACE, history, 4, [ACC], task="Cats and dogs.", wrong=["[1]: not an object"])
    for part in ("Cats and dogs.", "acc (more is better)", '"kernel": 3, 5, only where "op" is "b"', "4 objects"):
        assert part in text
    assert '"se": false, true' in text
    assert text.index('{"op":"a","se":true}: acc 0.75') < text.index('{"kernel":5,"op":"b","se":true}: acc 0.5')
    assert '{"op":"a","se":false}: could not be measured' in text
    assert "[1]: not an object" in text


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"op": "a", "se": True}, None),
        ({"op": "b", "kernel": 3, "se": True}, None),
        ({"op": "a", "kernel": 3, "se": True}, "kernel is no choice here"),
        ({"op": "b", "se": True}, "kernel must be one of"),
        ({"op": "a", "se": 1}, "se must be one of"),
        ({"op": "c", "se": True}, "op must be one of"),
        ({"op": "a", "se": True, "width": 3}, "width is no choice here"),
        ({"op": ["a"], "se": True}, "an arch maps names"),
        ({"op": "a", "se": float("nan")}, ""),
        ({}, "op must be one of"),
        ("a", "not an object"),
        (None, "not an object"),
        ({"op": "a", "se": False}, "known already"),
    ],
)
def test_only_what_is_an_arch_counts(entry, reason):
    seen = {SPACE.canonical({"op": "a", "se": False})}
    archs, wrong = parsed(json.dumps([entry]), SPACE, seen)
    assert (len(archs), len(wrong)) == ((1, 0) if reason is None else (0, 1))
    assert (reason or "") in "".join(wrong)


GOOD = '[{"op": "a", "se": true}]'


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (GOOD, True),
        (f"Some [brackets] first, and [1, 2].\n\n{GOOD}\n", True),
        (f"```json\n{GOOD}\n```", True),
        (f"{GOOD} That is it.", False),
        ("", False),
        ("[" * 3000 + "]", False),
        ("[]", False),
        ('{"op": "a", "se": true}', False),
        (GOOD[:-1], False),
    ],
)
def test_the_list_is_what_the_answer_ends_with(answer, counts):
    archs, wrong = parsed(answer, SPACE, set())
    assert bool(archs) is counts
    assert bool(wrong) is not counts


@given(st.text(alphabet='[]{}",:aopse01 truenl\n`', max_size=60))
def test_no_answer_breaks_the_parser(answer):
    archs, wrong = parsed(answer, SPACE, set())
    assert archs or wrong
    assert all(SPACE.contains(arch) for arch in archs)


def test_what_is_wrong_is_told_and_asked_again():
    asked: list[str] = []
    answers = iter(['[{"op": "z"}]', "nonsense", GOOD])

    def ask(text: str) -> str:
        asked.append(text)
        return next(answers)

    found = proposer(SPACE, [], random.Random(0), 1, ask=ask, objectives=[ACC])
    assert found == [SPACE.canonical({"op": "a", "se": True})]
    assert '{"op": "z"}: op must be one of' in asked[1]
    assert "does not end with a JSON list" in asked[2]


def test_what_is_missing_is_mutated_from_the_best():
    history = history_of(CONDITIONAL, 30)
    asked: list[str] = []
    found = proposer(CONDITIONAL, history, random.Random(0), 5, ask=lambda text: asked.append(text) or "no", asks=2)
    assert (len(found), len(asked)) == (5, 2)
    best = sorted(history, key=lambda record: -record.metrics["accuracy_val"])[:10]
    near = [{str(a) for a in CONDITIONAL.neighbours(record.arch)} for record in best]
    assert sum(any(str(arch) in held for held in near) for arch in found) >= 2


def test_a_search_is_repeated_from_its_transcript_without_the_model(tmp_path):
    def searched(ask, budget: int) -> list[tuple[Arch, dict[str, float]]]:
        found = run(CONDITIONAL, evaluate, partial(proposer, ask=ask), budget, seed=1, batch=4)
        return [(record.arch, dict(record.metrics)) for record in found]

    file = tmp_path / "some" / "transcript.jsonl"
    whole = searched(Transcript(file, reader), 20)
    assert searched(Transcript(file), 20) == whole
    asked = len(Transcript(file))
    assert asked >= 5
    assert searched(Transcript(file), 12) == whole[:12]
    with pytest.raises(InputError, match="no answer to this prompt"):
        searched(Transcript(file), 24)
    assert searched(Transcript(file, reader), 24)[:20] == whole
    assert len(Transcript(file)) > asked


def test_a_transcript_survives_a_kill_in_the_middle_of_a_line(tmp_path):
    file = tmp_path / "t.jsonl"
    first = Transcript(file, lambda text: f'{text}: ä\u2028\n"')
    answers = {text: first(text) for text in ("one", "two")}
    whole = file.read_bytes()
    for cut in range(len(whole) - 1, len(whole) // 2, -7):
        file.write_bytes(whole[:cut])
        again = Transcript(file, lambda text: "other")
        assert again("one") == answers["one"]
        assert again("two") == "other"
        assert len(Transcript(file)) == 2


@pytest.mark.parametrize("content", ["nonsense\n", "[1]\n", '{"prompt": "p"}\n', b"\xff\xfe\n"])
def test_what_is_no_transcript_is_refused(content, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match="no transcript"):
        Transcript(file)


def test_a_model_that_does_not_speak_is_refused(tmp_path):
    with pytest.raises(InputError, match="text"):
        Transcript(tmp_path / "t.jsonl", lambda text: None)("?")  # type: ignore[arg-type, return-value]


def test_a_transcript_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError):
        Transcript(Path(tmp_path / "file" / "t.jsonl"), lambda text: "yes")("?")


def test_a_model_that_reads_is_better_than_chance_on_a_real_table(data_dir):
    """NAS-Bench-Macro: a model that does no more than change options of the best in its prompt."""
    table = open_known("macro:cifar10", data_dir)

    def ends(strategy) -> list[float]:
        found = []
        for seed in range(6):
            history = run(table.space, table.evaluate, strategy, 60, seed, objectives=table.objectives, batch=5)
            found.append(table.best - table.best_so_far(history)[-1])
        return found

    assert np.mean(ends(partial(proposer, ask=reader))) < np.mean(ends("random"))


def test_what_is_no_text_is_refused_and_deep_brackets_are_no_list():
    with pytest.raises(InputError, match="with text, not NoneType"):
        proposer(SPACE, [], random.Random(0), 2, ask=lambda prompt: None)
    archs, wrong = parsed("[" * 30_000 + "]" * 30_000, SPACE, set())
    assert not archs
    assert wrong
