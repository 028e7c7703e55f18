"""fit --model: a network that the person brings is the space."""

from __future__ import annotations

import copy
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from recipes.nets import BLOCK
from recipes.shop import workshop
from sartor.data import open_data
from sartor.errors import BudgetError, InputError
from sartor.graph.saliency import Evidence, fisher
from sartor.measure.counts import counts
from sartor.models.zoo import open_model
from sartor.recipes import probe
from sartor.recipes.bench import Bench, recipe_for
from sartor.recipes.explore import worth_having
from sartor.recipes.fit import fit
from sartor.recipes.given import name_of, open_given
from sartor.recipes.probe import SMALLEST_BATCH, STEPS_FOR_A_SUPERNET, probe_given
from sartor.recipes.run import Run, open_run
from sartor.recipes.worth import LIKELY, judge_worth
from sartor.records import Arch, Budget, Record
from sartor.train.loop import Recipe
from sartor.train.schedule import Turn, alike, between, level, nested
from sartor.train.steps import supernet_step
from train.digits import digits, inputs, plain_step
from train.digits import fit as trained_by

NETS = (
    BLOCK
    + """

def small(classes=10):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), Block(24), nn.Dropout(0.05), Block(24),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, classes),
    ), (1, 8, 8)


def thousand():
    return small(1000)


def coloured():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10)), (3, 8, 8)


def oblong():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 4, 10)), (1, 8, 6)


def last_is_no_layer():
    return nn.Sequential(nn.Conv2d(1, 7, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (1, 8, 8)
"""
)


@pytest.fixture(scope="module")
def weights(nets: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that knows the digits."""
    network = open_model(f"{nets}:small").module
    trained_by(network, plain_step(network, inputs(0), Recipe(batch_size=64), side=8), 300, 0, Recipe(batch_size=64))
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
    return file


def command(nets: str, weights: Path, out: Path) -> list[str]:
    options = ["--model", f"{nets}:small", "--weights", str(weights), "--time", "40s", "--out", str(out)]
    return [sys.executable, "-m", "sartor.cli", "fit", "digits", *options]


@pytest.fixture(scope="module")
def run(nets: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    done = subprocess.run(command(nets, weights, out), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return open_run(out)


def test_its_cuts_are_the_front(run: Run) -> None:
    assert run.front
    measured = json.loads((run.path / "evidence.json").read_text())["measured"]
    whole = next(m["metrics"]["macs"] for m in measured if m["name"] == "largest")
    assert min(r.metrics["macs"] for r in run.front) < 0.7 * whole
    assert max(r.metrics["accuracy_test"] for r in run.front) > 0.9
    assert (run.path / "report.html").is_file()
    came = next(
        b for b in json.loads((run.path / "evidence.json").read_text())["baselines"] if "as it came" in b["name"]
    )
    assert came["accuracy_test"] > 0.9
    assert run.info["arguments"]["model"].split()[0].endswith("nets.py:small")


@pytest.mark.heavy
def test_killed_and_gone_on_with(run: Run, nets: str, weights: Path, tmp_path: Path) -> None:
    """On the same plan, killed while it is searched and while its members are trained: the same front, to the last
    bit. The network has dropout, which draws at random."""
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(run.path / "journal.jsonl", out / "journal.jsonl")
    stages = {t["stage"]: t["seconds"] for t in json.loads((run.path / "run.json").read_text())["times"]}
    until = sum(stages[name] for name in ("data", "probe", "supernet"))
    for moment in (until, until + stages["specialise"] / 2):
        process = subprocess.Popen(command(nets, weights, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((out / "run.json").read_text())["status"] != "done"
    done = subprocess.run(command(nets, weights, out), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr

    def said(path: Path) -> list[tuple[str, str, float, float]]:
        return [(r.name, r.arch.key, r.metrics["accuracy_val"], r.metrics["size_bytes"]) for r in open_run(path).front]

    assert said(out) == said(run.path)
    for record in run.front:
        mine, theirs = (load_file(p / "models" / record.name / "model.safetensors") for p in (out, run.path))
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


def test_members_say_what_was_cut(run: Run) -> None:
    for record in run.front:
        folder = run.path / "models" / record.name
        cut = json.loads((folder / "arch.json").read_text())["cut"]
        assert set(cut) == {"model", "side", "classes", "keep", "removed", "kernels"}
        again = open_model(str(folder))
        x = torch.randn(3, 1, 8, 8)
        session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        (said,) = session.run(None, {"images": x.numpy()})
        if record.precision == "fp32":
            with torch.no_grad():
                np.testing.assert_allclose(said, again.module(x).numpy(), atol=1e-4)
    assert open_model(str(run.path)).image_shape == (1, 8, 8)


def test_it_goes_on_only_with_the_same_network(run: Run, nets: str, weights: Path, tmp_path: Path) -> None:
    again = fit("digits", model=f"{nets}:small", weights=weights, time_s=40, out=run.path, verbosity=0)
    assert [r.name for r in again.front] == [r.name for r in run.front]
    with pytest.raises(InputError, match="model differ"):
        fit("digits", model=f"{nets}:small", time_s=40, out=run.path, verbosity=0)


def test_the_last_layer_is_replaced_where_classes_differ(nets: str) -> None:
    given = open_given(f"{nets}:thousand", None, open_data("digits"))
    with torch.no_grad():
        assert given.original(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        assert given.elastic(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert given.original is not given.elastic.model
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    given = open_given(own, None, open_data("digits"))
    assert given.elastic.model is not own, "a person's own module is left alone"
    assert recipe_for(given.original, 64).optimiser == "adamw"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("coloured", "takes 3 channels"),
        ("oblong", "only square ones"),
        ("last_is_no_layer", "its last layer is not a linear one"),
        ("nothing", "no function nothing"),
    ],
)
def test_networks_that_do_not_fit(nets: str, tmp_path: Path, model: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        fit("digits", model=f"{nets}:{model}", time_s=20, out=tmp_path / "run", verbosity=0)
    assert not (tmp_path / "run" / "run.json").exists(), "the folder was not claimed"


def test_arguments_that_do_not_fit(nets: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights are for a model"):
        fit("digits", weights="w.safetensors", time_s=20, out=tmp_path / "run", verbosity=0)
    with pytest.raises(InputError, match="is missing"):
        fit("digits", model=f"{nets}:small", weights="w.safetensors", time_s=20, out=tmp_path / "run", verbosity=0)
    with pytest.raises(InputError, match="leave out schedule"):
        fit("digits", model=f"{nets}:small", schedule="sandwich", time_s=20, out=tmp_path / "run", verbosity=0)
    with pytest.raises(InputError, match="not int"):
        fit("digits", model=3, time_s=20, out=tmp_path / "run", verbosity=0)


def test_names_tell_weights_apart(nets: str, weights: Path) -> None:
    assert name_of(None, None) is None
    assert name_of("timm:resnet18", None) == "timm:resnet18"
    assert name_of(f"{nets}:small", weights) == name_of(f"{nets}:small", weights) != name_of(f"{nets}:small", None)
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert name_of(one, None) != name_of(other, None)
    other.load_state_dict(one.state_dict())
    assert name_of(one, None) == name_of(other, None)


def test_archs_of_one_share(nets: str) -> None:
    """Drawn choice by choice, archs are all of middling size; these are of every size."""
    space = open_given(f"{nets}:small", None, open_data("digits")).elastic.space
    rng = random.Random(0)

    def share(arch) -> float:
        widths = [c for c in space.choices if c.name.endswith(".keep")]
        return float(np.mean([arch[c.name] / max(c.options) for c in widths]))

    alikes = [share(alike(space, rng)) for _ in range(200)]
    drawn = [share(space.sample(rng)) for _ in range(200)]
    assert all(space.contains(alike(space, rng)) for _ in range(50))
    assert np.std(alikes) > 1.3 * np.std(drawn)
    turns = nested(space, rng, 0.5)
    assert len(turns) == 4
    assert turns[:2] == [Turn(space.largest()), Turn(space.smallest(), distil=True)]


def test_what_matters_comes_first(nets: str, weights: Path, tmp_path: Path) -> None:
    """The images decide the order, once: another process reads it. The search begins with what pruning would choose."""
    digits_ = open_data("digits")
    given = open_given(f"{nets}:small", weights, digits_)
    by_norm = copy.deepcopy(given.elastic)
    shop = workshop(tmp_path, Budget(), given=given)
    likely = judge_worth(shop, 60.0, 1e-6, lambda share, what: None)
    space = given.elastic.space
    assert all(space.contains(arch) for arch in likely)
    whole = counts(given.original, (1, 8, 8)).macs
    macs = [counts(given.elastic.extract(arch), (1, 8, 8)).macs / whole for arch in likely]
    assert len(set(likely)) == len(likely) >= 2
    assert macs == sorted(macs, reverse=True)
    assert all(have < goal + 0.15 for have, goal in zip(macs, LIKELY, strict=False)), "a block is half of it"

    scores = fisher(given.elastic.graph, Evidence(Bench((1, 8, 8), digits_, digits_.mean, digits_.std, 0).batches))
    for choice in space.choices:
        if choice.name.endswith(".keep"):
            name = choice.name.removesuffix(".keep")
            arch = space.largest().replace(**{choice.name: choice.options[2]})
            kept, values = given.elastic.cut(arch).keep[name], scores[name]
            assert float(values[list(kept)].sum()) == pytest.approx(float(values.topk(len(kept)).values.sum()))

    again = open_given(f"{nets}:small", weights, digits_)
    assert not torch.equal(again.elastic.orders, given.elastic.orders)
    blind = workshop(tmp_path, Budget(), given=again)
    blind.dataset = None  # what was decided needs no image
    assert judge_worth(blind, 1.0, 1.0, lambda share, what: None) == likely
    assert torch.equal(again.elastic.orders, given.elastic.orders)
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        arch = level(space, 0.5)
        torch.testing.assert_close(given.untouched(arch)(x), given.elastic.eval()(x, arch))
        assert not torch.equal(given.elastic(x, arch), by_norm.eval()(x, arch))


def test_without_time_to_judge_norms_decide(nets: str, weights: Path, tmp_path: Path) -> None:
    given = open_given(f"{nets}:small", weights, open_data("digits"))
    before = given.elastic.orders.clone()
    assert judge_worth(workshop(tmp_path, Budget(), given=given), 1.0, 1.0, lambda share, what: None) == ()
    assert torch.equal(given.elastic.orders, before)


def test_batches_are_as_small_as_the_time_asks(
    nets: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = open_given(f"{nets}:small", weights, open_data("digits"))
    sizes = []
    for name, steps in (("short", 10**9), ("long", STEPS_FOR_A_SUPERNET)):
        monkeypatch.setattr(probe, "STEPS_FOR_A_SUPERNET", steps)
        shop = workshop(tmp_path / name, Budget(), given=given)
        probe_given(shop, 10.0, lambda share, what: None)
        monkeypatch.setattr(probe, "STEPS_FOR_A_SUPERNET", 1)
        again = workshop(tmp_path / name, Budget(), given=given)
        probe_given(again, 10.0, lambda share, what: None)
        assert again.recipe == shop.recipe, "decided once"
        sizes.append(shop.recipe.batch_size)
    assert sizes == [SMALLEST_BATCH, 64], "a set of a thousand images has no larger ones"


def test_cuts_that_know_nothing_are_no_members() -> None:
    def record(latency: float, accuracy: float) -> Record:
        metrics = {"latency_ms": latency, "accuracy_val": accuracy}
        return Record(name=f"a{latency}", arch=Arch({"w": latency}), metrics=metrics)

    found = [record(0.1, 0.3), record(0.5, 0.6), record(2.0, 0.9)]
    assert worth_having(found, Budget(), 10) == found[1:]
    assert worth_having(found, Budget(max_latency_ms=0.6), 10) == found[1:]
    assert worth_having(found, Budget(max_latency_ms=0.2), 10) == found, "nothing else is within the budget"
    assert worth_having(found[:1], Budget(), 10) == found[:1]


def test_orders_that_are_none(nets: str) -> None:
    elastic = open_given(f"{nets}:small", None, open_data("digits")).elastic
    name = next(c.name for c in elastic.space.choices if c.name.endswith(".keep")).removesuffix(".keep")
    for orders in ({name: [0, 0, 1]}, {"nothing": [0]}, {name: []}):
        with pytest.raises(InputError, match="each of its entries once"):
            elastic.reorder(orders)


def test_between_neighbours(nets: str) -> None:
    space = open_given(f"{nets}:small", None, open_data("digits")).elastic.space
    rng = random.Random(0)
    chain = [level(space, share) for share in (1.0, 0.6, 0.2)]
    for _ in range(50):
        arch = between(space, chain, rng)
        assert any(all(arch[n] in (a[n], b[n]) for n in arch) for a, b in itertools.pairwise(chain))
    turns = [nested(space, rng, 0.5, likely=chain[1:]) for _ in range(100)]
    for taught in turns:
        first, second = (turn.arch for turn in taught[-3:-1])
        for a in (first, second):
            assert any(all(a[n] in (x[n], y[n]) for n in a) for x, y in itertools.pairwise(chain))
        assert [turn.arch for turn in taught[:-3]] in ([], [space.largest()])
    assert {len(taught) for taught in turns} == {3, 4}


def test_a_teacher_that_is_not_trained(nets: str, weights: Path) -> None:
    """All turns learn from its outputs; its own weights and statistics stay as they are."""
    given = open_given(f"{nets}:small", weights, open_data("digits"))
    before = {k: v.clone() for k, v in given.original.state_dict().items()}
    step = supernet_step(given.elastic.train(), nested, inputs(0), Recipe(), teacher=given.original)
    raw = digits().train.take(np.arange(64))
    step(raw, torch.from_numpy(digits().train.labels[:64]), 0.5, 0)
    assert all(torch.equal(v, before[k]) for k, v in given.original.state_dict().items())
    assert all(p.grad is None for p in given.original.parameters())
    assert all(p.grad is not None for p in given.elastic.parameters())


def test_what_no_cut_can_meet_is_noticed_before_the_training(nets: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="no network can meet"):
        fit("digits", model=f"{nets}:small", max_size_bytes=100, time_s=20, out=tmp_path / "run", verbosity=0)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_outputs_for_training_only_are_refused() -> None:
    class Helped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.helper = nn.Conv2d(1, 8, 3), nn.Linear(8, 10), nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> object:
            x = self.a(x).mean((2, 3))
            return (self.b(x), self.helper(x)) if self.training else self.b(x)

    with pytest.raises(InputError, match="returns tuple in training"):
        open_given(Helped(), None, open_data("digits"))


def test_the_network_as_it_came_is_cut_without_what_was_learnt(nets: str, weights: Path) -> None:
    given = open_given(f"{nets}:small", weights, open_data("digits"))
    arch = given.elastic.space.smallest()
    before = given.untouched(arch).state_dict()
    with torch.no_grad():
        for p in given.elastic.parameters():
            p.add_(1.0)
    after = given.untouched(arch).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not torch.equal(given.elastic.extract(arch).state_dict()["0.weight"], after["0.weight"])
