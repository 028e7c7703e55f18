"""HAT (P276): one SuperTransformer's weights serve every arch; what is found under a latency cap meets it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sartor.models.hat import build_hat
from sartor.models.supernet import Supernet
from sartor.predict.light import fit_gaussian_process, kendall
from sartor.records import Arch, Budget
from sartor.search.methods.nsga2 import nsga2
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.space.hat import averages, hat_space

SPACE = hat_space(widths=(8, 16, 32), hidden=(8, 16, 64), heads=(2, 4), decoder_layers=(1, 2, 3), encoder_layers=2)
WORDS, FIRST, LENGTH = 14, 4, 5
build = partial(build_hat, vocabulary=WORDS, inner=16)
Batch = tuple[Tensor, Tensor, Tensor]
Model = Callable[[Tensor, Tensor], Tensor]


def batch(n: int, generator: torch.Generator) -> Batch:
    """Sentences, their translations as far as they are known, and the whole: every word by another, back to front."""
    words = torch.arange(FIRST, WORDS)
    source = torch.randint(FIRST, WORDS, (n, LENGTH), generator=generator)
    target = words.roll(3)[source.flip(1) - FIRST]
    return source, torch.cat([torch.full((n, 1), 2), target[:, :-1]], 1), target


HELD_OUT = batch(512, torch.Generator().manual_seed(9))


def loss(model: Model, given: Batch) -> Tensor:
    return F.cross_entropy(model(given[0], given[1]).flatten(0, 1), given[2].flatten())


def train(parameters: list[torch.nn.Parameter], model: Model, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(model, batch(64, generator)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()


def test_a_sliced_subnet_is_the_standalone_network_with_those_weights():
    torch.manual_seed(0)
    supernet, given = Supernet(SPACE, build).eval(), batch(3, torch.Generator().manual_seed(1))
    rng = random.Random(0)
    for arch in [SPACE.smallest(), SPACE.largest(), *(SPACE.sample(rng) for _ in range(10))]:
        alone = build(arch).eval()
        alone.load_state_dict(supernet.extract(arch).state_dict())
        torch.testing.assert_close(supernet.run(given[:2], arch), alone(*given[:2]), atol=1e-5, rtol=1e-5)


def latencies(supernet: Supernet, archs: list[Arch]) -> np.ndarray:
    """Milliseconds of one sentence: of 40 calls of each network, in turns, the eighth fastest. Networks of 2 ms are
    interrupted in most calls where others want the processor too, and a median is then how long these had it."""
    given = batch(1, torch.Generator().manual_seed(2))[:2]
    networks = [supernet.extract(arch).eval() for arch in archs]
    rounds = np.empty((41, len(networks)))
    with torch.no_grad():
        for row, place in np.ndindex(*rounds.shape):
            start = time.perf_counter()
            networks[place](*given)
            rounds[row, place] = 1000 * (time.perf_counter() - start)
    return np.quantile(rounds[1:], 0.2, axis=0)


def supertransformer() -> Supernet:
    """A SuperTransformer, every step another arch drawn uniformly (§3.2)."""
    rng = random.Random(0)
    torch.manual_seed(0)
    supernet = Supernet(SPACE, build).train()
    train(list(supernet.parameters()), lambda *given: supernet.run(given, SPACE.sample(rng)), 500, seed=1)
    return supernet.eval()


@torch.no_grad()
def inherited(supernet: Supernet, arch: Arch) -> float:
    return float(loss(lambda *given: supernet.run(given, arch), HELD_OUT))


def found_under_a_cap(trained: Supernet) -> None:
    """A predictor learns latencies from HAT's ten features; the search sees its predictions; the best are measured."""
    rng = random.Random(1)
    sampled = [SPACE.smallest(), SPACE.largest(), *(SPACE.sample(rng) for _ in range(22))]
    times = latencies(trained, sampled)
    predictor = fit_gaussian_process([list(averages(arch).values()) for arch in sampled], times)
    cap = float(times[0] + times[1]) / 2

    def evaluate(arch: Arch) -> dict[str, float]:
        predicted = predictor.predict([list(averages(arch).values())])[0][0]
        return {"loss": inherited(trained, arch), "latency_ms": max(float(predicted), 1e-3)}

    capped = partial(nsga2, budget=Budget(max_latency_ms=cap))
    history = run(SPACE, evaluate, capped, 96, objectives=(Objective("loss"), Objective("latency_ms")), batch=8)
    within = sorted((r for r in history if r.metrics["latency_ms"] <= cap), key=lambda r: r.metrics["loss"])[:6]
    measured = latencies(trained, [SPACE.smallest(), SPACE.largest(), *(r.arch for r in within)])
    pace = float(measured[0] + measured[1]) / float(times[0] + times[1])  # the machine's, which others share
    met = [r for r, ms in zip(within, measured[2:], strict=True) if ms <= pace * cap]
    print(
        f"cap {pace * cap:.2f} ms, measured {measured.round(2)}, losses {[round(r.metrics['loss'], 3) for r in within]}"
    )
    assert met
    assert met[0].metrics["loss"] < inherited(trained, SPACE.smallest()) / 2


def ranked_as_retrained(trained: Supernet) -> None:
    rng = random.Random(2)
    archs = [SPACE.smallest(), SPACE.largest(), *(SPACE.sample(rng) for _ in range(5))]
    retrained = []
    for arch in archs:
        torch.manual_seed(0)
        network = build(arch).train()
        train(list(network.parameters()), network, 150, seed=3)
        with torch.no_grad():
            retrained.append(float(loss(network, HELD_OUT)))
    guessed = [inherited(trained, arch) for arch in archs]
    tau = kendall(guessed, retrained)
    print(f"inherited {np.round(guessed, 3)}, retrained {np.round(retrained, 3)}, Kendall's tau {tau:.2f}")
    assert tau > 0.5


@pytest.mark.claim
def test_hat():
    """What is found under a latency cap meets it when it is measured, and inherited losses rank archs as losses after
    retraining do. That a sliced subnet is the standalone network is shown above."""
    trained = supertransformer()
    found_under_a_cap(trained)
    ranked_as_retrained(trained)
