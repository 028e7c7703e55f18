"""Sources of parts of language models: what is sound passes, what looks ahead, remembers or costs too much does not,
and nothing that a source does reaches further than its process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recipes.sources import BROKEN, CONVOLUTION, DEAR, LINEAR_ATTENTION, NEEDLESS, REFUSED, SOUND
from sartor.data.text import characters
from sartor.errors import InputError
from sartor.recipes.mixers import TrainedMixer
from sartor.recipes.mixers.checks import check, growth
from sartor.recipes.mixers.job import made, maker, measured
from sartor.recipes.mixers.reading import read
from sartor.records import Arch
from sartor.search.asi_arch import best_so_far, standing
from sartor.search.loop import NotMeasured
from sartor.search.objective import Objective
from sartor.search.store import Store
from sartor.search.transcript import Transcript

WIDTH = 16


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_passes_and_is_left_as_it_was(name):
    read(SOUND[name])
    torch.manual_seed(0)
    part = made(maker(SOUND[name]), WIDTH)
    held = {key: tensor.clone() for key, tensor in part.state_dict().items()}
    check(part, WIDTH)
    assert all(torch.equal(held[key], tensor) for key, tensor in part.state_dict().items())
    assert {tensor.dtype for tensor in part.state_dict().values()} == {torch.float32}
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_sound_is_refused_for_its_reason(name):
    source, reason = REFUSED[name]
    read(source)
    with pytest.raises(InputError, match=reason):
        check(made(maker(source), WIDTH), WIDTH)


@pytest.mark.parametrize("name", ["convolution", "gated", "linear", "block"])
def test_costs_that_grow_with_the_tokens_pass(name):
    found = growth(made(maker(SOUND[name]), WIDTH), WIDTH, 1.3)
    assert found.work == pytest.approx(1, abs=0.01)
    assert found.traffic == pytest.approx(1, abs=0.01)


def test_macs_a_token_are_those_of_its_layers():
    """Of a convolution of four and a product."""
    found = growth(made(maker(CONVOLUTION), WIDTH), WIDTH, 1.3)
    assert found.macs_per_token == pytest.approx(4 * WIDTH + WIDTH**2, rel=0.01)


@pytest.mark.parametrize("name", DEAR)
def test_costs_that_grow_faster_are_refused(name):
    part = made(maker(DEAR[name]), WIDTH)
    check(part, WIDTH)
    with pytest.raises(InputError, match=r"grows with tokens to the power of 1\.[4-9]|power of 2"):
        growth(part, WIDTH, 1.3)


@pytest.mark.parametrize("source", BROKEN)
def test_what_makes_no_part_is_told_in_a_line(source):
    def make():
        read(source)
        maker(source)

    with pytest.raises(InputError, match=BROKEN[source]) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", NEEDLESS)
def test_what_no_part_needs_is_not_run(source):
    with pytest.raises(InputError, match=NEEDLESS[source]):
        read(source)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"split": "all"}, {"memory_bytes": 1}, {"lr": -1}],
)
def test_settings_that_make_no_sense_are_refused(wrong, tmp_path):
    file = tmp_path / "text"
    file.write_text("some text")
    with pytest.raises(InputError):
        TrainedMixer(file, **wrong)
    with pytest.raises(InputError, match="missing"):
        TrainedMixer(tmp_path / "none")


TRIES = """
import json, os, resource, socket, sqlite3, subprocess, sys
from pathlib import Path
import numpy as np
from sartor.recipes.mixers.guard import bounded, closed
mine = Path(sys.argv[1])
bounded(memory_bytes=2**30, cpu_s=60)
closed()
def outcome(do):
    try:
        do()
    except BaseException as error:
        return type(error).__name__
    return "done"
def native():
    with sqlite3.connect(mine / "by-native-code") as held:
        held.execute("create table t (x)")
print(json.dumps({name: outcome(do) for name, do in {
    "write": lambda: (mine / "new").write_text("x"),
    "change": lambda: (mine / "there").write_text("x"),
    "read": lambda: (mine / "there").read_text(),
    "remove": lambda: (mine / "there").unlink(),
    "native": native,
    "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
    "process": lambda: subprocess.run(["true"]),
    "system": lambda: os.system("true"),
    "fork": os.fork,
    "kill": lambda: os.kill(os.getppid(), 0),
    "memory": lambda: np.ones(2**28),
    "late import": lambda: __import__("wave"),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1)) if os.getuid() else 1 / 0,
}.items()}))
"""


def test_a_process_that_is_closed_reaches_nothing(tmp_path):
    (tmp_path / "there").write_text("kept")
    out = subprocess.run(
        [sys.executable, "-c", TRIES, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ).stdout
    found = json.loads(out)
    for name in ("write", "change", "read", "remove", "connect", "process", "system", "fork", "kill"):
        assert found[name] == "PermissionError", name
    assert found["memory"] == "MemoryError"
    assert found["native"] == "OperationalError"
    assert found["late import"] == "done"
    assert found["limits"] != "done"
    assert (tmp_path / "there").read_text() == "kept"
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == len("kept")


def test_a_source_without_an_end_is_ended_with_all_that_it_began(tmp_path):
    file = tmp_path / "text"
    file.write_bytes(bytes(range(32, 96)) * 40)
    evaluate = TrainedMixer(file, seconds=1.5)
    begin = time.monotonic()
    with pytest.raises(NotMeasured, match=r"not done after 1\.5 s"):
        evaluate(Arch({"source": "while True:\n    pass\n"}))
    assert time.monotonic() - begin < 30
    assert not [line for line in processes() if "sartor.recipes.mixers.job" in line]


def processes() -> list[str]:
    """What the children of this process were started as, where the system tells."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may just have ended
            if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append((place / "cmdline").read_text().replace("\0", " "))
    return found


SETTINGS = {"width": 32, "depth": 1, "context": 64, "steps": 150, "rows": 8, "windows": 16}
LOOKS_AHEAD = CONVOLUTION.replace("[0] - 1, 0)", "[0] - 2, 1)")


def scripted(prompt: str) -> str:
    """A proposer by a script: after attention by sums, a convolution that looks ahead, and then one that does not."""
    if prompt.startswith("Judge"):
        return "Sound.\nscore: 6"
    if prompt.startswith("This was tried"):
        return "It knows not where anything stood."
    source = CONVOLUTION if "Mend it" in prompt else LOOKS_AHEAD
    return f"I would try this.\n```python\n{source}```\n"


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from recipes.test_mixers import SETTINGS, scripted
from recipes.sources import LINEAR_ATTENTION
from sartor.recipes.mixers import TrainedMixer
from sartor.search import run
from sartor.search.asi_arch import asi_arch
from sartor.search.objective import Objective
from sartor.search.transcript import Transcript
from sartor.space.sources import Sources

folder, text = Path(sys.argv[1]), sys.argv[2]
ask = Transcript(folder / "asked.jsonl", scripted)
strategy = partial(asi_arch, ask=ask, first=LINEAR_ATTENTION, cold=0, refresh=1, parents=1, leak=None)
evaluate = TrainedMixer(text, **SETTINGS)
run(Sources(), evaluate, strategy, 3, objectives=[Objective("loss")], store=folder / "study.db")
"""


@pytest.mark.heavy
def test_a_loop_is_killed_resumed_and_never_gets_worse(data_dir, tmp_path):
    """Propose, check, train, archive: killed while the second source is at work, and gone on with by the same command.
    What was refused is in the archive with its reason, what was trained has the numbers that it has when it is trained
    here, and the best so far only rises."""
    text = str(data_dir / "text" / "tinyshakespeare.txt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), text]
    first = subprocess.Popen(command, env=environment, start_new_session=True)
    while not (tmp_path / "asked.jsonl").exists():  # the seed is done, and the first answer is written
        assert first.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with Store(tmp_path / "study.db", objectives=[Objective("loss")]) as store:
        before = store.records()
    assert [record.arch["source"] for record in before] == [LINEAR_ATTENTION]
    subprocess.run(command, env=environment, check=True)
    with Store(tmp_path / "study.db", objectives=[Objective("loss")]) as store:
        history = store.records()
    assert history[0] == before[0]
    expected = [LINEAR_ATTENTION, LOOKS_AHEAD, CONVOLUTION]
    assert [str(record.arch["source"]).strip() for record in history] == [source.strip() for source in expected]
    assert "looks ahead" in history[1].provenance["failed"]
    assert [record.arch.get("parent") for record in history] == [None, history[0].arch.key, history[0].arch.key]
    tokens, words = characters(Path(text))
    torch.set_num_threads(1)
    job = {**vars(TrainedMixer(text, **SETTINGS)), "source": CONVOLUTION}
    again = measured(job, torch.from_numpy(tokens), words)
    assert history[2].metrics == pytest.approx(again["metrics"], rel=1e-5)
    replayed = Transcript(tmp_path / "asked.jsonl", scripted)
    values = standing(history, ask=replayed, leak=None)
    assert values[0] == pytest.approx(0.5)
    assert values[1] is None
    best = best_so_far(values)
    assert all(later >= earlier for earlier, later in itertools.pairwise(best))
    assert best[-1] > best[0]
