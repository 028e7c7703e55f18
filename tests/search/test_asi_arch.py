"""A model that writes networks: what it is told, what of its answers counts, and that the loop can be cut anywhere."""

from __future__ import annotations

import math
import random
import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search import run
from sartor.search.asi_arch import asi_arch, best_so_far, fitness, standing
from sartor.search.asi_arch.fitness import leaks
from sartor.search.asi_arch.strategy import _settled, recalled
from sartor.search.asi_arch.told import RULES, code_of, score
from sartor.search.loop import NotMeasured
from sartor.search.objective import Objective
from sartor.search.transcript import Transcript
from sartor.space.sources import Sources, normalised
from sartor.space.space import Space

SPACE, LOSS = Sources(), [Objective("loss")]


def source(size: int) -> str:
    """Networks that differ in a number, which is what they are worth."""
    return f"class Mixer:\n    size = {size}\n"


def size_of(text: str) -> int:
    return int(re.findall(r"size = (\d+)", text)[-1])


def evaluate(arch: Arch) -> dict[str, float]:
    """Larger is better, up to fifteen; sevens cannot be trained."""
    size = size_of(str(arch["source"]))
    if size == 7:
        raise NotMeasured("seven does not work")
    return {"loss": 2.0 - 0.01 * min(size, 15), "accuracy": 0.5 + 0.004 * min(size, 15)}


def writer(prompt: str) -> str:
    """A model that adds one to what it is shown, mends a seven by an eight, and judges everything alike."""
    if prompt.startswith("Judge"):
        return "Fine. Score: 5"
    if prompt.startswith("This was tried"):
        return f"A size of {size_of(prompt)} is a size."
    if "Mend it" in prompt:
        return f"```python\n{source(size_of(prompt) + 1)}```"
    parent = int(re.search(r"improved:.*?size = (\d+)", prompt, re.DOTALL)[1])
    return f"More.\n```python\n{source(parent + 1 + prompt.count('was tried before'))}```"


def begun(ask=writer, **options):
    return partial(asi_arch, ask=ask, first=source(1), cold=0, refresh=1, **options)


def test_a_search_begins_with_the_first_and_goes_up():
    history = run(SPACE, evaluate, begun(parents=1), 9, objectives=LOSS)
    assert [size_of(str(r.arch["source"])) for r in history] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    by_key = {r.arch.key: r for r in history}
    parents = [by_key[r.arch["parent"]] for r in history[1:]]
    assert [size_of(str(p.arch["source"])) for p in parents] == [1, 2, 3, 4, 5, 6, 6, 8]
    assert history[6].provenance["failed"] == "seven does not work"
    values = standing(history, ask=writer)
    assert values[0] == pytest.approx(0.5)
    assert values[6] is None
    assert best_so_far(values) == [v if v is not None else values[5] for v in values]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_search_that_ends_anywhere_goes_on_as_if_it_had_not(cut, tmp_path):
    whole = run(SPACE, evaluate, begun(), 8, 3, objectives=LOSS)
    asked = []

    def counted(prompt):
        asked.append(prompt)
        return writer(prompt)

    for budget in (cut, 8):
        strategy = begun(Transcript(tmp_path / "asked.jsonl", counted))
        history = run(SPACE, evaluate, strategy, budget, 3, objectives=LOSS, store=tmp_path / "study.db")
    assert [(r.arch, dict(r.metrics)) for r in history] == [(r.arch, dict(r.metrics)) for r in whole]
    assert len(asked) == len(set(asked)), "what was answered is not asked again"
    replayed = run(SPACE, evaluate, begun(Transcript(tmp_path / "asked.jsonl")), 8, 3, objectives=LOSS)
    assert [r.arch for r in replayed] == [r.arch for r in whole]


def history_of(*sizes: int, failed: tuple[int, ...] = ()) -> list[Record]:
    return [
        Record(f"a{i}", SPACE.canonical({"source": source(size)}), metrics=evaluate(Arch({"source": source(size)})))
        if size not in failed
        else Record(f"a{i}", SPACE.canonical({"source": source(size)}), provenance={"failed": "no"})
        for i, size in enumerate(sizes)
    ]


def prompts(history: list[Record], answers=writer, **options) -> list[str]:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return answers(prompt)

    asi_arch(SPACE, history, random.Random(0), 1, ask=ask, first=source(1), **{"cold": 0, "refresh": 1, **options})
    return asked


def test_a_prompt_has_the_parent_the_others_what_was_learnt_and_what_is_known():
    notes = ["A size of 3 is a size, they say.", "Bees fly.", "Nothing grows on the moon."]
    *_, text = prompts(history_of(1, 5, 3, 4), parents=1, task="Small ones.", knowledge=notes)
    assert text.startswith(RULES)
    assert "Small ones." in text
    assert text.index("improved:\n- a1: loss 1.95, accuracy 0.52\n  A size of 5 is a size.") < text.index("Others")
    assert text.index("size = 5") < text.index("Others")
    assert {name for name in ("a0", "a2", "a3") if f"- {name}: loss" in text} == {"a0", "a2", "a3"}
    assert "- A size of 3 is a size, they say." in text
    *_, bare = prompts(history_of(1, 5), analysed=False)
    assert "A size of 5" not in bare


def test_what_was_refused_is_told_and_another_is_asked_for():
    answers = iter(
        ["nothing", "```python\nclass Mixer(\n```", f"```python\n# new\n{source(1)}```", f"```\n{source(9)}```"]
    )
    asked = prompts(history_of(1), lambda prompt: next(answers), judged=False, analysed=False, asks=4)
    assert len(asked) == 4
    for reason in ("no code between", "no Python", "tried before"):
        assert reason in asked[3]
    assert prompts(history_of(1), lambda prompt: "never", judged=False, analysed=False)[-1].count("no code") == 2


def test_what_failed_is_given_back_to_be_mended_and_not_for_ever():
    *_, text = prompts(history_of(1, 3, 4, failed=(3, 4)), mends=2)
    assert "could not be used: no" in text
    assert "size = 4" in text
    *_, text = prompts(history_of(1, 3, 4, failed=(3, 4)), mends=1)
    assert "size = 4" not in text
    assert "improved:\n- a0" in text


def test_the_pool_is_refreshed_as_the_paper_does():
    """Nothing before the first 200; then at every fiftieth."""
    assert [_settled(n, 200, 50) for n in (1, 199, 200, 249, 250, 301)] == [1, 1, 200, 200, 250, 300]
    assert [_settled(n, 0, 1) for n in (1, 2, 9)] == [1, 2, 9]
    *_, text = prompts(history_of(1, 5, 6), cold=200, refresh=50)
    assert "improved:\n- a0" in text
    assert "Others" not in text


def test_parents_are_the_best_and_references_the_rest():
    history = history_of(1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12)
    seen = set()
    for seed in range(30):
        asked: list[str] = []
        ask = lambda prompt, asked=asked: asked.append(prompt) or writer(prompt)
        asi_arch(
            SPACE,
            history,
            random.Random(seed),
            1,
            ask=ask,
            first="",
            cold=0,
            refresh=1,
            parents=3,
            references=2,
            pool=6,
        )
        text = asked[-1]
        seen.add(re.search(r"improved:\n- (a\d+):", text)[1])
        others = re.findall(r"^- (a\d+):", text[text.index("Others") :], re.MULTILINE)
        assert len(others) == 2
        assert set(others) <= {"a5", "a6", "a7"}
    assert seen == {"a8", "a9", "a10"}


def test_several_at_once_differ():
    found = asi_arch(SPACE, history_of(1), random.Random(0), 3, ask=writer, first="", cold=0, refresh=1)
    assert len({normalised(str(arch["source"])) for arch in found}) == 3


@given(loss=st.floats(0.1, 4), accuracy=st.floats(0.01, 0.99), judged=st.floats(1, 10) | st.none())
def test_fitness_is_a_mean_of_parts_that_rise(loss, accuracy, judged):
    first = {"loss": 2.0, "accuracy": 0.5}
    value = fitness({"loss": loss, "accuracy": accuracy}, first, judged)
    assert 0 < value < 1
    assert fitness({"loss": loss * 0.99, "accuracy": accuracy}, first, judged) >= value
    assert fitness({"loss": loss, "accuracy": accuracy * 1.01}, first, judged) >= value
    assert fitness({"loss": 1e-9, "accuracy": accuracy}, first, judged) == fitness(
        {"loss": 1.8 - 1e-9, "accuracy": accuracy}, first, judged
    )


def test_fitness_by_hand():
    first = {"loss": 2.0, "accuracy": 0.5}
    assert fitness(first, first) == 0.5
    assert fitness(first, first, 5.0) == 0.5
    sigmoid = lambda x: 1 / (1 + math.exp(-x))
    expected = (sigmoid(5 * 0.5) + sigmoid(-5 * 0.2) + 0.8) / 3
    assert fitness({"loss": 1.9, "accuracy": 0.49}, first, 8) == pytest.approx(expected)


def test_what_must_have_leaked_is_no_parent():
    first = {"loss": 2.0, "accuracy": 0.5}
    assert leaks({"loss": 1.79}, first)
    assert not leaks({"loss": 1.81}, first)
    assert not leaks({"loss": 0.1}, first, None)
    history = [
        *history_of(1, 2),
        Record("a2", SPACE.canonical({"source": source(3)}), metrics={"loss": 0.1, "accuracy": 1}),
    ]
    assert standing(history)[2] is None
    assert standing(history, leak=None)[2] > 0.9


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Score: 7", 7), ("score: 3\nno, score: 8.5", 8.5), ("score: 11", None), ("0 of 10", None), ("score: x", None)],
)
def test_a_score_is_read(answer, expected):
    assert score(answer) == expected


@given(st.text(max_size=80))
def test_no_answer_breaks_the_loop(text):
    arch, reason = code_of(f"```python\n{text}\n```", SPACE, "", set())
    assert (arch is None) == bool(reason)
    assert score(text) is None or 1 <= score(text) <= 10


def test_notes_are_found_by_what_they_share():
    notes = ["gates help convolutions", "apples and pears", "linear attention forgets"]
    assert recalled(notes, "a convolution with gates", 1) == notes[:1]
    assert recalled([], "anything") == []


def test_what_cannot_be_is_told():
    with pytest.raises(InputError, match="Sources"):
        asi_arch(Space(()), [], random.Random(0), 1, ask=writer, first=source(1))
    with pytest.raises(InputError, match="no Python"):
        asi_arch(SPACE, [], random.Random(0), 1, ask=writer, first="class Mixer(")
    with pytest.raises(InputError, match=r"cannot begin .*: no"):
        prompts(history_of(1, failed=(1,)))
    with pytest.raises(InputError, match="text, not NoneType"):
        prompts(history_of(1, 2), lambda prompt: None)
