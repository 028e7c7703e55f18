"""The command line as a user meets it: words in, exit code and text out, in a process of its own.

Two runs are used: one written here from parts (two networks that tell dark images from bright ones, so that every
answer is known), and, where the whole tool is meant, one that ``sartor fit digits`` makes.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import sartor
from sartor.disk import lock, write_json
from sartor.records import FRONT_COLUMNS, Arch, Record
from sartor.report.table import write_front
from sartor.serve.predict import metadata

Outcome = subprocess.CompletedProcess[str]
SARTOR = [sys.executable, "-m", "sartor.cli"]
VERBS = ("fit", "show", "pick", "report", "predict", "prune", "measure", "search", "audit", "systems")


# pytest tells its children how wide the terminal is; a program that reads a pipe is not told.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}


def run(*words: str | Path, cwd: Path | None = None) -> Outcome:
    return subprocess.run([*SARTOR, *map(str, words)], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT)


def assert_one_line(outcome: Outcome, code: int, *said: str) -> None:
    """Failed with this code and one line on stderr that says these things."""
    assert outcome.returncode == code, outcome.stderr
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert outcome.stderr.startswith("error: ")
    for words in said:
        assert words in outcome.stderr


# --- help, version, wrong words ---------------------------------------------------------------------------------------


def test_help_is_fast() -> None:
    """0.3 s of processor time (wall time would measure who else is on the machine), the fastest of three; on a machine
    on which the interpreter itself is slow, little more than the library of the command line takes."""

    def used(call: Callable[[], Any]) -> float:
        before = os.times()
        call()
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    outcome = run("--help")
    assert outcome.returncode == 0
    for verb in VERBS:
        assert verb in outcome.stdout
    library = min(used(lambda: subprocess.run([sys.executable, "-c", "import typer"], check=True)) for _ in range(3))
    assert min(used(lambda: run("--help")) for _ in range(3)) <= max(0.3, 3 * library)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    outcome = run(verb, "--help")
    assert outcome.returncode == 0
    assert "Example" in outcome.stdout
    assert f"sartor {verb}" in outcome.stdout


def test_version() -> None:
    assert run("--version").stdout == f"sartor {sartor.__version__}\n"


def test_completion_offers_the_verbs() -> None:
    asked = {**os.environ, "_SARTOR_COMPLETE": "complete_bash", "COMP_WORDS": "sartor ", "COMP_CWORD": "1"}
    outcome = subprocess.run(SARTOR, capture_output=True, text=True, env=asked)
    assert set(VERBS) <= set(outcome.stdout.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit", "DATA"),
        ("nope", "nope"),
        ("fit digits --max-latncy 2ms", "--max-latency"),
        ("fit digits --max-latency 2", "2ms"),
        ("fit digits --max-latency 0ms", "positive"),
        ("fit digits --max-size 1", "1MB"),
        ("fit digits --max-macs 20x", "20M"),
        ("fit digits --time soon", "30m"),
        ("fit digits --threads 0", "--threads"),
        ("fit digits --seed=-1", "--seed"),
        ("fit digits --quiet --verbose", "one of them"),
        ("fit digits --dry-run --json", "leave out --json"),
        ("fit digits --quiet --model timm:resnet18", "takes 3 channels"),
        ("pick run --min-accuracy 120%", "90%"),
        ("show no-such-folder", "sartor fit"),
        ("report no-such-folder", "sartor fit"),
        ("predict no-such-model cat.jpg", "no-such-model"),
        ("systems --kind no-such-kind", "pruning"),
        ("search --table nb301", "unknown table"),
        ("search --table nb201:cifar10 --columns edge0", "own columns"),
        ("search --table mine.csv --columns a --maximise b", "cannot read"),
        ("search --table mine.csv --maximise b", "--columns"),
        ("search --table mine.csv --columns a --maximise b --strategy best", "choose from random"),
        ("search --table mine.csv --columns a --maximise b --budget 0", "--budget"),
        ("search --table mine.csv --columns a --maximise b --strategy ,", "one, at least"),
        ("search --table mine.csv --columns a --maximise b --minimise b", "once"),
        ("search --table nb201:cifar10 --data no-such-folder", "no folder"),
        ("search --table mine.csv --columns a --maximise b --plot race.png", ".svg"),
        ("audit", "SOURCES"),
        ("audit runs.json --table nb201:cifar10", "SOURCES"),
        ("audit runs.json --budget 10 --seeds 3", "--budget, --seeds are for --table"),
        ("audit runs.json", "cannot read runs.json"),
        ("audit .", "not a run"),
        ("audit runs.json -o audit.pdf", "audit.html"),
        ("audit --table nb201:cifar10 --random mine", "--random"),
        ("audit --table nb201:cifar10 --poison-with worst", "--poison"),
        ("audit --table nb201:cifar10 --poison 0", "1,3"),
        ("audit --table nb301", "unknown table"),
    ],
)
def test_wrong_words_are_one_line(words: str, said: str, tmp_path: Path) -> None:
    assert_one_line(run(*words.split(), cwd=tmp_path), 2, said)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for words in (["show", "nope", "--debug"], ["--debug", "show", "nope"]):
        outcome = run(*words, cwd=tmp_path)
        assert outcome.returncode != 0
        assert "Traceback" in outcome.stderr
        assert "InputError" in outcome.stderr


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen([*SARTOR, "systems"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_search(tmp_path: Path) -> None:
    rows = [f"{d},{w},{d + w / 10},{d * w}" for d in (1, 2, 3) for w in (8, 16, 24)] + ["4,8,nan,1"]
    (tmp_path / "mine.csv").write_text("\n".join(["depth,width,accuracy,ms", *rows]) + "\n")
    words = (
        "search --table mine.csv --columns depth,width --maximise accuracy --minimise ms --strategy random,local,nsga2"
    )
    outcome = run(*words.split(), "--budget", "9", "--seeds", "2", "--json", "runs.json", cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert "1 of 10 rows" in outcome.stdout
    assert "9 archs" in outcome.stdout
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [(r["strategy"], r["seed"]) for r in runs] == [(n, s) for s in (0, 1) for n in ("random", "local", "nsga2")]
    for entry in runs:
        assert entry["evaluations"] == len(entry["best_so_far"]) == 9
        assert entry["best_so_far"][-1] == pytest.approx(5.4)
        assert entry["hypervolume"][-1] == pytest.approx(1)


def test_a_search_is_drawn_and_audited(tmp_path: Path) -> None:
    rows = [f"{d},{w},{d * w % 17},{d * w % 13}" for d in range(1, 11) for w in range(8)]
    (tmp_path / "mine.csv").write_text("\n".join(["depth,width,val,test", *rows]) + "\n")
    table = "--table mine.csv --columns depth,width --maximise val --verdict max:test --budget 12"
    words = f"search {table} --strategy random,local --seeds 6 --json runs.json --plot race.svg"
    outcome = run(*words.split(), cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert "beside random at 12" in outcome.stdout
    assert (tmp_path / "race.svg").read_text().startswith("<svg")
    few = run(*f"search {table} --strategy random,local --seeds 2".split(), cwd=tmp_path)
    assert "too few seeds" in few.stdout
    assert "--seeds 6 or more" in few.stdout
    read = run(*["audit", "runs.json", "-o", "audit.html", "--json", "audit.json"], cwd=tmp_path)
    assert read.returncode == 0, read.stderr
    found = json.loads((tmp_path / "audit.json").read_text())
    assert found["problem"]["name"] == "mine.csv"
    assert {line["strategy"]: line["seeds"] for line in found["strategies"]} == {"random": 6, "local": 6}
    for said in ("beside random search", "Kendall's tau", "no search saw test data"):
        assert said in read.stdout
        assert said.replace("'", "&#x27;") in (tmp_path / "audit.html").read_text()
    spot = run(*f"audit {table} --strategy local --seeds 3 --poison 1 --setting depth".split(), cwd=tmp_path)
    assert spot.returncode == 0, spot.stderr
    for said in ("too few seeds", "evaluations on poison", "Do ranks hold in another setting?"):
        assert said in spot.stdout
    assert_one_line(run("audit", "mine.csv", cwd=tmp_path), 2, "mine.csv")


def test_results_that_are_there_survive_a_mistake(tmp_path: Path) -> None:
    """What is read is not written over, and an older result stays until there is a new one."""
    text = "\n".join(["depth,val", *(f"{d},{d % 5}" for d in range(12))]) + "\n"
    (tmp_path / "mine.csv").write_text(text)
    (tmp_path / "old.html").write_text("old")
    table = "--table mine.csv --columns depth --maximise val"
    for words in (
        f"search {table} --strategy random --budget 3 --seeds 1 --json mine.csv",
        f"audit {table} --strategy local --json x.html -o x.html",
    ):
        assert_one_line(run(*words.split(), cwd=tmp_path), 2, "give the output another name")
    assert_one_line(run(*f"audit {table} --strategy tpyo -o old.html".split(), cwd=tmp_path), 2, "unknown strategy")
    assert (tmp_path / "mine.csv").read_text() == text
    assert (tmp_path / "old.html").read_text() == "old"


def test_systems() -> None:
    rows = json.loads(run("systems", "--json").stdout)
    missing = json.loads(run("systems", "--missing", "--json").stdout)
    assert [row for row in rows if row["status"] == "open"] == missing
    out = run("systems").stdout
    for row in rows:
        if row["status"] == "works":
            assert row["where"] in out
            assert row["test"] in out


# --- a run whose answers are known ------------------------------------------------------------------------------------

DATA = {"classes": ["dark", "bright"], "channels": 1, "resolution": 8, "mean": [0.5], "std": [0.5]}


def brightness_model(file: Path) -> None:
    """Logits −s and s, with s the sum of the normalised pixels: bright wins exactly when the mean is over 0.5."""
    weight = np.tile(np.array([-1, 1], np.float32), (64, 1))
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata(DATA))
    onnx.save(model, file)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fast network at 90% and a slow one at 95%."""
    folder = tmp_path_factory.mktemp("small") / "run"
    records = []
    for name, accuracy, latency in (("fast", 0.90, 0.5), ("slow", 0.95, 1.5)):
        (folder / "models" / name).mkdir(parents=True)
        brightness_model(folder / "models" / name / "model.onnx")
        numbers = (accuracy - 0.01, accuracy, latency, 1.1 * latency, 128, 128, 900, 512)
        records.append(Record(name, Arch({"name": name}), metrics=dict(zip(FRONT_COLUMNS[2:], numbers, strict=True))))
    write_json(folder / "run.json", {"format": 1, "sartor": sartor.__version__, "status": "done", "data": DATA})
    dropped = [{"name": "huge", "precision": "fp32", "reason": "latency 3 ms over 2 ms by 50.0%"}]
    write_front(folder, records, dropped, picked="slow")
    return folder


def test_show(small_run: Path) -> None:
    out = run("show", small_run).stdout
    for said in ("fast", "slow", "95.0%", "dropped huge", "50.0%", f"sartor pick {small_run}"):
        assert said in out
    shown = json.loads(run("show", small_run, "--json").stdout)
    assert [record["name"] for record in shown["front"]] == ["fast", "slow"]
    assert shown["picked"] == "slow"


def test_the_pick_command_shown_picks_the_picked_member(small_run: Path, tmp_path: Path) -> None:
    (line,) = (line for line in run("show", small_run).stdout.splitlines() if line.startswith("pick one: sartor "))
    words = line.removeprefix("pick one: sartor ").split()
    outcome = run(*words, "--json", cwd=tmp_path)
    assert json.loads(outcome.stdout)["name"] == "slow"


def test_pick_obeys_the_limits(small_run: Path, tmp_path: Path) -> None:
    picked = json.loads(run("pick", small_run, "--max-latency", "1ms", "-o", tmp_path / "model", "--json").stdout)
    assert picked["name"] == "fast"
    assert picked["path"] == str(tmp_path / "model")
    assert (tmp_path / "model" / "model.onnx").is_file()
    assert "sartor predict" in run("pick", small_run, "--min-accuracy", "92%").stdout


@pytest.mark.parametrize("limit", ["--max-latency 10us", "--max-size 1B", "--max-macs 1", "--max-memory 1B"])
def test_pick_names_the_nearest_miss(small_run: Path, limit: str) -> None:
    assert_one_line(run("pick", small_run, *limit.split()), 3, "nearest")


def test_report(small_run: Path) -> None:
    outcome = run("report", small_run)
    assert outcome.stdout == f"{small_run / 'report.html'}\n"
    assert "slow" in (small_run / "report.html").read_text()


def test_predict(small_run: Path, tmp_path: Path) -> None:
    model = small_run / "models" / "fast"
    for name, grey in (("night.png", 10), ("day.png", 250)):
        Image.new("L", (8, 8), grey).save(tmp_path / name)
    out = run("predict", model, tmp_path).stdout.splitlines()
    assert [line.split(": ")[1].split()[0] for line in out] == ["bright", "dark"]  # files in the order of their names
    (answer,) = json.loads(run("predict", model, tmp_path / "day.png", "--json").stdout)
    assert answer["class_name"] == "bright"
    assert sum(answer["probabilities"]) == pytest.approx(1)

    (tmp_path / "torn.png").write_bytes((tmp_path / "day.png").read_bytes()[:40])
    outcome = run("predict", model, tmp_path)
    assert outcome.returncode == 2
    assert outcome.stdout.splitlines() == out  # the others go on
    assert "torn.png" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_measure(small_run: Path) -> None:
    model = small_run / "models" / "fast"
    measured = json.loads(run("measure", model, "--runs", "20", "--json").stdout)
    assert {"params", "macs", "peak_activation_bytes", "latency_ms", "target"} <= set(measured)
    assert measured["macs"] == measured["params"] == 64 * 2  # one product of a 64-vector and a 64×2 matrix
    assert measured["latency_ms"] > 0
    assert "macs" in run("measure", model, "--runs", "20").stdout
    assert_one_line(run("measure", "no-such-model.onnx"), 2, "no-such-model.onnx")


def test_measure_side_by_side_and_as_a_page(small_run: Path, tmp_path: Path) -> None:
    fast, slow = (small_run / "models" / name for name in ("fast", "slow"))
    page, target = tmp_path / "page.html", ("--target", "systolic:8x8")
    printed = run("measure", fast, slow, *target, "--html", page).stdout
    assert "of the first" in printed
    assert f"page:    {page}" in printed
    assert "Side by side" in page.read_text()
    found = json.loads(run("measure", fast, *target, "--json", "--html", page).stdout)
    assert found["memory_plan"]["arena_bytes"] == found["planned_activation_bytes"]
    assert "Where activations live" in page.read_text()
    lost = run("measure", fast, *target, "--html", tmp_path / "nowhere" / "page.html")
    assert_one_line(lost, 2, "nowhere", "make it")
    assert lost.stdout == "", "told before anything is measured"
    assert_one_line(run("measure", fast, slow, "--cuts"), 2, "--cuts is of one model")


# --- the whole tool ---------------------------------------------------------------------------------------------------

FIT = ("fit", "digits", "--time", "40s", "--max-latency", "1ms")
SHORT = ("fit", "digits", "--time", "20s", "--max-latency", "1ms")
"""Where what is found does not matter."""


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("digits") / "run"
    outcome = run(*FIT, "--out", folder)
    assert outcome.returncode == 0, outcome.stderr
    return folder, outcome


def test_dry_run_prints_a_plan_and_writes_nothing(tmp_path: Path) -> None:
    outcome = run(*FIT, "--out", tmp_path / "run", "--dry-run", cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    for stage in ("supernet", "search", "specialise", "prove"):
        assert stage in outcome.stdout  # the plan is a dry run's result
    assert "1,797 images of 10 classes at 8 pixels" in outcome.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_looks_at_the_data(tmp_path: Path) -> None:
    outcome = run("fit", tmp_path / "nowhere", "--dry-run", cwd=tmp_path)
    assert outcome.returncode == 2
    assert "nowhere" in outcome.stderr


@pytest.mark.heavy
def test_fit_leaves_a_run(digits_run: tuple[Path, Outcome]) -> None:
    folder, outcome = digits_run
    for name in ("run.json", "front.json", "front.csv", "splits.json", "evidence.json", "report.html", "study.db"):
        assert (folder / name).is_file(), name
    with (folder / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert tuple(rows[0])[: len(FRONT_COLUMNS)] == FRONT_COLUMNS
    for row in rows:
        assert float(row["latency_ms"]) <= 1
        for name in ("model.onnx", "model.safetensors", "arch.json", "card.md"):
            assert (folder / "models" / row["name"] / name).is_file()
        assert int(row["size_bytes"]) == (folder / "models" / row["name"] / "model.onnx").stat().st_size
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert f"sartor pick {folder}" in outcome.stdout


@pytest.mark.heavy
def test_from_run_to_prediction(digits_run: tuple[Path, Outcome], tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    folder, _ = digits_run
    assert run("pick", folder, "--max-latency", "1ms", "-o", tmp_path / "model").returncode == 0
    digits = load_digits()
    for index in range(20):
        Image.fromarray((digits.images[index] * 255 / 16).astype(np.uint8)).save(tmp_path / f"{index:02}.png")
    answers = json.loads(run("predict", tmp_path / "model", *sorted(tmp_path.glob("*.png")), "--json").stdout)
    right = sum(answer["class_name"] == str(digits.target[i]) for i, answer in enumerate(answers))
    assert right > 10  # far from the 2 of 20 that guessing gets: channels, scale and class names came through


@pytest.mark.heavy
def test_quiet_prints_the_folder(tmp_path: Path) -> None:
    outcome = run(*SHORT, "--quiet", "--out", tmp_path / "run")
    assert outcome.returncode == 0
    assert outcome.stdout == f"{tmp_path / 'run'}\n"
    assert outcome.stderr == ""


@pytest.mark.heavy
def test_a_budget_nothing_meets(tmp_path: Path) -> None:
    outcome = run("fit", "digits", "--time", "40s", "--max-size", "10B", "--quiet", "--out", tmp_path / "run")
    assert_one_line(outcome, 3, "10")


@pytest.mark.heavy
def test_stop_and_resume(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [*SARTOR, *SHORT, "--out", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        while not (folder / "run.json").is_file() and p.poll() is None:
            time.sleep(0.1)
        time.sleep(3)
        p.send_signal(signal.SIGINT)
        _, stderr = p.communicate(timeout=240)
    assert p.returncode == 130, stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    resumed = run(*SHORT, "--out", folder, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((folder / "run.json").read_text())["status"] == "done"


@pytest.mark.heavy
def test_a_run_is_guarded(digits_run: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, _ = digits_run
    assert run(*FIT, "--out", folder, "-q").stdout == f"{folder}\n"  # done already: said again, not done again
    assert_one_line(run(*FIT, "--seed", "1", "--out", folder, "-q"), 2, "seed")
    with lock(folder):
        assert_one_line(run(*FIT, "--out", folder, "--resume", "-q"), 2, "in use")
    np.savez(
        tmp_path / "other.npz",
        x=np.tile(np.arange(100, dtype=np.uint8)[:, None, None], (1, 8, 8)),
        y=np.arange(100) % 2,
    )
    assert_one_line(run("fit", tmp_path / "other.npz", *FIT[2:], "--out", folder, "--resume", "-q"), 2, str(folder))
    assert_one_line(run(*FIT, "--out", tmp_path / "nothing", "--resume", "-q"), 2, "nothing")


def empty(folder: Path) -> None:
    folder.mkdir()


def one_class(folder: Path) -> None:
    (folder / "cats").mkdir(parents=True)
    for i in range(20):
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / "cats" / f"{i}.png")


def not_images(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            (folder / name / f"{i}.png").write_bytes(b"not a picture")


def floats(file: Path) -> None:
    with file.open("wb") as target:
        np.savez(target, x=np.full((40, 8, 8), np.nan), y=np.arange(40) % 2)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("nowhere", None, "nowhere"),
        ("empty", empty, "empty"),
        ("one", one_class, "one"),
        ("broken", not_images, "broken"),
        ("floats.npz", floats, "NaN"),
    ],
)
def test_broken_data_is_one_line(name: str, make: Callable[[Path], None] | None, said: str, tmp_path: Path) -> None:
    if make is not None:
        make(tmp_path / name)
    outcome = run("fit", tmp_path / name, "--time", "40s", "--quiet", "--out", tmp_path / "run")
    assert_one_line(outcome, 2, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [("--target abacus", "onnxruntime"), ("--precision fp7", "fp32"), ("--precision ,", "fp32"), ("--time 1s", "time")],
)
def test_wrong_values_are_one_line(words: str, said: str, tmp_path: Path) -> None:
    assert_one_line(run("fit", "digits", *words.split(), "--quiet", "--out", tmp_path / "run"), 2, said)


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_one_line(run(*FIT, "--quiet", "--out", tmp_path / "file" / "run"), 2, "--out")


def test_python_takes_the_arguments_of_the_command() -> None:
    import inspect

    names = set(inspect.signature(sartor.fit).parameters)
    assert names >= {"data", "model", "max_latency_ms", "max_size_bytes", "max_macs", "max_memory_bytes"}
    assert names >= {"time_s", "target", "threads", "precision", "seed", "out", "resume", "dry_run", "verbosity"}
