"""Do spaces of vision transformers become better by searching the space (S3, P254)?

    python benchmarks/searched_space.py --data FASHION_MNIST [--seeds 1 2 3] [--steps 1000] [--rounds 3]

In each round a supernet is trained on 20,000 images of Fashion-MNIST and judges archs on 1,000 others; then the ranges
move. No network may cost more MACs than the largest of the first space. Prints the E-T error of each round, and the
test errors of the network chosen from the last space by its supernet, trained by itself, beside that chosen from the
first space out of as many and all that the rounds evaluated. FASHION_MNIST is the folder of the four ``.gz`` files:
Debian's package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sartor.models.autoformer import build_autoformer
from sartor.models.supernet import Supernet
from sartor.records import Arch
from sartor.search.s3 import Dimension, Options, Round, drawn_that_fit, s3
from sartor.space.autoformer import Ranges, autoformer_space
from sartor.space.space import Space

PATCH, PER_HEAD, TOKENS = 7, 8, 17
VIT = {
    "width": Dimension((16, 24, 32), 8, 64),
    "depth": Dimension((1, 2, 3), 1, 6),
    "heads": Dimension((1, 2, 3), 1, 6),
    "ratio": Dimension((0.5, 1.0, 1.5), 0.5, 4.0),
}


def vits(options: Options) -> Space:
    return autoformer_space(Ranges(options["width"], options["depth"], options["heads"], options["ratio"]))


def build(arch: Arch) -> torch.nn.Module:
    return build_autoformer(arch, channels=1, classes=10, resolution=28, patch=PATCH, per_head=PER_HEAD)


def macs(arch: Arch) -> float:
    """Of the layers' products."""
    width, total = int(arch["width"]), 0.0
    for i in range(int(arch["depth"])):
        inner = int(arch[f"heads{i}"]) * PER_HEAD
        total += TOKENS * (4 * width * inner + 2 * TOKENS * inner + 2 * width * int(width * float(arch[f"ratio{i}"])))
    return total


MOST = macs(vits({name: d.options for name, d in VIT.items()}).largest())


def fits(arch: Arch) -> bool:
    """No network costs more than the largest that there was at first."""
    return macs(arch) <= MOST


Images = tuple[torch.Tensor, torch.Tensor]


def fashion(folder: Path) -> dict[str, Images]:
    """20,000 images to learn from, 1,000 to choose by, and the test set's 10,000."""

    def part(name: str) -> Images:
        images, classes = (folder / f"{name}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        if not images.is_file():
            raise SystemExit(f"{images} is missing: --data names the folder that holds Fashion-MNIST")
        pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
        labels = np.frombuffer(gzip.decompress(classes.read_bytes()), np.uint8, offset=8)
        x = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).astype(np.float32))
        return (x / 255 - 0.286) / 0.353, torch.from_numpy(labels.astype(np.int64))

    x, y = part("train")
    return {"train": (x[:20_000], y[:20_000]), "val": (x[-1_000:], y[-1_000:]), "test": part("t10k")}


def learnt(
    images: Images,
    forward: Callable[[torch.Tensor, int], torch.Tensor],
    weights: Iterable[torch.nn.Parameter],
    steps: int,
    seed: int,
) -> None:
    """AdamW, one descent of the learning rate."""
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    x, y = images
    for step in range(steps):
        chosen = torch.randint(len(x), (64,), generator=generator)
        loss = F.cross_entropy(forward(x[chosen], step), y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def wrong(images: Images, forward: Callable[[torch.Tensor], torch.Tensor]) -> float:
    return 1 - float((forward(images[0]).argmax(1) == images[1]).float().mean())


def supernet_errors(data: dict[str, Images], space: Space, steps: int, seed: int) -> Callable[[Arch], float]:
    """The errors of a space's archs with weights that they share, of which a drawn arch learns in each step."""
    torch.manual_seed(seed)
    supernet, rng = Supernet(space, build), random.Random(seed)

    def forward(x: torch.Tensor, step: int) -> torch.Tensor:
        (arch,) = drawn_that_fit(space, 1, fits, rng)
        return supernet.run((x,), arch)

    learnt(data["train"], forward, supernet.parameters(), steps, seed)
    supernet.eval()
    return lambda arch: wrong(data["val"], lambda x: supernet.run((x,), arch))


def alone(data: dict[str, Images], arch: Arch, steps: int, seed: int) -> float:
    """The test error of a network that learns by itself."""
    torch.manual_seed(seed)
    network = build(arch)
    learnt(data["train"], lambda x, step: network(x), network.parameters(), steps, seed)
    network.eval()
    return wrong(data["test"], network)


def compared(
    data: dict[str, Images], seed: int, *, steps: int, rounds: int, samples: int, tau: float, many: int
) -> None:
    """One search of the space, and the best of the first and the last."""
    judges: list[Callable[[Arch], float]] = []
    asked = 0

    def trained(space: Space, number: int) -> Callable[[Arch], float]:
        errors = supernet_errors(data, space, steps, 1000 * seed + number)
        judges.append(errors)

        def counted(arch: Arch) -> float:
            nonlocal asked
            asked += 1
            return errors(arch)

        return counted

    def told(r: Round) -> None:
        slopes = ", ".join(f"{name} {100 * value:+.2f}" for name, value in r.slopes.items())
        print(f"seed {seed}: E-T error {r.error:.2%} of {dict(r.options)}; points a step: {slopes}", flush=True)

    settings = {"samples": samples, "top": max(1, samples // 6), "tau": tau, "fits": fits, "seed": seed}
    found = s3(vits, VIT, trained, rounds=rounds, on_round=told, **settings)
    for what, place, evaluations in (("first", 0, many + asked), ("last", -1, many)):
        archs = drawn_that_fit(found[place].space, evaluations, fits, random.Random(seed))
        best = min(dict.fromkeys(archs), key=judges[place])
        tested = [alone(data, best, steps, 10 * seed + i) for i in range(2)]
        said = ", ".join(f"{error:.2%}" for error in tested)
        print(
            f"seed {seed}: {what} space, best of {evaluations}: test errors {said}, {macs(best) / MOST:.0%} of the MACs"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--tau", type=float, default=0.004)
    parser.add_argument("--many", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = fashion(options.data)
    for seed in options.seeds:
        sizes = {"steps": options.steps, "rounds": options.rounds, "samples": options.samples, "many": options.many}
        compared(data, seed, tau=options.tau, **sizes)


if __name__ == "__main__":
    main()
