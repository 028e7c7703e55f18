"""Many networks in one by training nested cuts of any network: SortedNet (P238), MatFormer (P437), InstaTune (P446)."""

from __future__ import annotations

import itertools
import math
import random
from functools import cache, partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.graph.saliency import Scores
from sartor.models.elastic import Elastic, elastify
from sartor.models.vit import build_vit
from sartor.records import Arch
from sartor.space.vit import vit_space
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy
from sartor.train.schedule import level, nested, sorted_nets
from sartor.train.steps import plain_step, supernet_step
from train.digits import VIT_RECIPE, fit, held_out, inputs

STEPS = 1000
ARCH = vit_space(8, width=32, depth=2).largest()


def first_come(graph, evidence) -> Scores:
    """The order of fresh networks, in which no entry matters more than another: prefixes are kept."""
    return {group.name: torch.arange(group.size, 0, -1).double() for group in graph.groups}


def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_vit(ARCH, channels=1, classes=10, patch=2)


def fresh(network: nn.Module) -> nn.Module:
    """``network`` with the weights that :func:`build_vit` begins with."""
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        if hasattr(module, "position"):
            nn.init.trunc_normal_(module.position, std=0.02)
    return network.train()


def test_a_chain_is_nested() -> None:
    supernet = elastify(vit().eval(), torch.randn(2, 1, 8, 8), depth=False, saliency=first_come)
    archs = [level(supernet.space, place / 3) for place in range(4)]
    assert archs[0] == supernet.space.smallest()
    assert archs[-1] == supernet.space.largest()
    for small, large in itertools.pairwise(archs):
        assert all(small[name] <= large[name] for name in small)
    turns = sorted_nets(supernet.space, random.Random(0), 0.5, archs=3)
    assert [archs.index(turn.arch) for turn in turns] == sorted((archs.index(t.arch) for t in turns), reverse=True)
    assert sum(turn.scale for turn in turns) == pytest.approx(1)


@pytest.mark.claim
def test_sorted_net() -> None:
    """SortedNet: one training gives four networks; each is a slice of the stored weights, by prefixes of its groups;
    there are no others; accuracy does not fall with size, and each is near one trained alone for as many steps."""
    model = vit().eval()
    stored = sum(t.numel() for t in model.state_dict().values())
    supernet = elastify(model, torch.randn(2, 1, 8, 8), depth=False, saliency=first_come)
    archs = [level(supernet.space, place / 3) for place in range(4)]
    fit(supernet, supernet_step(supernet, sorted_nets, inputs(0), VIT_RECIPE), STEPS, 0, VIT_RECIPE)
    right = [accuracy(supernet.extract(arch).eval(), held_out()) for arch in archs]
    separate = []
    for arch in archs:
        alone = fresh(supernet.extract(arch))
        fit(alone, plain_step(alone, inputs(0), VIT_RECIPE, side=8), STEPS, 0, VIT_RECIPE)
        separate.append(accuracy(alone.eval(), held_out()))
    print(f"together {right}, alone {separate}")
    tensors, cut = dict(supernet.model.state_dict()), supernet.cut(archs[1])
    assert cut.keep
    assert all(kept == tuple(range(len(kept))) for kept in cut.keep.values()), "prefixes of their groups"
    indices = supernet.graph.indices(cut)
    for name, tensor in supernet.extract(archs[1]).state_dict().items():
        expected = tensors[name]
        for dim, index in enumerate(indices[name]):
            expected = expected if index is None else expected.index_select(dim, index)
        assert torch.equal(tensor, expected), name
    assert sum(t.numel() for t in tensors.values()) == stored
    assert all(large > small - 0.01 for small, large in itertools.pairwise(right))
    assert sum(right) / 4 > sum(separate) / 4 - 0.03


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.again, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.down(F.gelu(self.up(self.again(x))))


class Characters(nn.Module):
    """A language model of characters. [b, t] → [b, t, characters]."""

    def __init__(self, characters: int, width: int = 64, depth: int = 2, context: int = 64):
        super().__init__()
        self.embed, self.position = nn.Embedding(characters, width), nn.Parameter(torch.zeros(context, width))
        self.layers = nn.Sequential(*(Layer(width, 4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.embed(x) + self.position[: x.shape[1]])))


@cache
def text() -> tuple[Tensor, int]:
    """Python's own help texts, as numbers, and how many characters there are."""
    from pydoc_data.topics import topics

    written = "\n".join(topics[name] for name in sorted(topics))
    letters = {letter: number for number, letter in enumerate(sorted(set(written)))}
    return torch.tensor([letters[letter] for letter in written]), len(letters)


def excerpts(start: int, *, held: bool = False):
    """Batches of 32 excerpts of 64 characters and the ones that follow; the last tenth is held out."""
    numbers, _ = text()
    edge = 9 * len(numbers) // 10
    low, high = (edge, len(numbers)) if held else (0, edge)
    step = start
    while True:
        generator = torch.Generator().manual_seed(step)
        places = torch.randint(low, high - 65, (32,), generator=generator)
        yield torch.stack([numbers[p : p + 64] for p in places]), torch.stack([numbers[p + 1 : p + 65] for p in places])
        step += 1


LANGUAGE = Recipe(optimiser="adamw", batch_size=32, peak_lr=2.4e-2, weight_decay=0.05)


def language_loss(model: nn.Module) -> float:
    batches = excerpts(0, held=True)
    with torch.no_grad():
        pairs = [next(batches) for _ in range(40)]
        losses = [float(F.cross_entropy(model(x).flatten(0, 1), y.flatten())) for x, y in pairs]
    return sum(losses) / len(losses)


def learn(module: nn.Module, call, steps: int) -> None:
    """``call(x, index)``: what the network of that step says of ``x``."""

    def step(x: Tensor, y: Tensor, progress: float, index: int) -> float:
        loss = F.cross_entropy(call(x, index).flatten(0, 1), y.flatten())
        loss.backward()
        return float(loss.detach())

    train(module, step, excerpts, LANGUAGE, seconds=math.inf, max_steps=steps)
    module.eval()


@pytest.mark.claim
def test_mat_former() -> None:
    """MatFormer: four nested feed-forward networks, one drawn for each step (§3.2), have at most 1 % more loss than
    each of them trained alone, for the same work in all: every one is trained for as many steps as alone. (The mean
    of their losses over one batch, tried first, is the same work in a quarter of the steps: up to 3 % more loss.
    Trained alone for as many steps as all four had, which is four times the work, the smallest is 2 % better than
    the nested, the largest 7 %: not shown is that nesting costs nothing, but that it pays.) Slices are the
    standalone copies. Networks that were never trained, with a larger granularity in the later block, lie near the
    line between those that were; the other way round is printed."""
    _, letters = text()
    alone_steps = 400
    torch.manual_seed(1)
    example = next(excerpts(0))[0][:2]
    protect = ("embed", "position", "norm", "head", "*.attention*", "*.again", "*.norm")
    make = partial(elastify, widths=(0.125, 0.25, 0.5, 1.0), depth=False, saliency=first_come, protect=protect)
    supernet = make(Characters(letters), example)
    assert [c.name for c in supernet.space.choices] == ["layers.0.up.keep", "layers.1.up.keep"]
    archs = [level(supernet.space, place / 3) for place in range(4)]

    def one(x: Tensor, index: int) -> Tensor:
        (turn,) = sorted_nets(supernet.space, random.Random(index), 0.0, archs=1)
        return supernet(x, turn.arch)

    learn(supernet, one, len(archs) * alone_steps)
    losses = [language_loss(supernet.extract(arch)) for arch in archs]
    alone = []
    for arch in archs:
        torch.manual_seed(1)
        own = make(Characters(letters), example).extract(arch)
        learn(own.train(), lambda x, index, own=own: own(x), alone_steps)
        alone.append(language_loss(own))
    x = next(excerpts(0, held=True))[0]
    for arch in archs:
        with torch.no_grad():
            torch.testing.assert_close(supernet.extract(arch)(x), supernet(x, arch))
    print(f"nested {losses}, alone {alone}")
    assert losses == sorted(losses, reverse=True)
    assert all(together < 1.01 * own for together, own in zip(losses, alone, strict=True))
    sizes = [sum(int(arch[c.name]) for c in supernet.space.choices) for arch in archs]

    def of_the_line(*options: int) -> float:
        mix = Arch(dict(zip((c.name for c in supernet.space.choices), options, strict=True)))
        line = float(np.interp(math.log(sum(options)), [math.log(s) for s in sizes], losses))
        return language_loss(supernet.extract(mix)) / line

    pairs = ((32, 64), (64, 128), (128, 256), (32, 128), (64, 256))
    rising, falling = [of_the_line(*pair) for pair in pairs], [of_the_line(*reversed(pair)) for pair in pairs]
    print(f"mixes, of the line: rising {rising}, falling {falling}")
    assert max(rising) < 1.02


def share_of(supernet: Elastic, arch: Arch) -> float:
    return supernet.graph.macs(supernet.cut(arch)) / supernet.graph.macs()


@pytest.mark.claim
def test_insta_tune() -> None:
    """InstaTune: a trained transformer becomes a supernet while it is tuned, with itself as it came as the teacher. The
    whole keeps its accuracy, and nested cuts of it, none of them trained by itself, are within two points of narrower
    transformers trained alone for as many steps as both trainings had. That they beat these is not shown."""
    model = vit()
    fit(model, plain_step(model, inputs(0), VIT_RECIPE, side=8), STEPS, 0, VIT_RECIPE)
    before = accuracy(model.eval(), held_out())
    original = vit()
    original.load_state_dict(model.state_dict())
    supernet = elastify(model, torch.randn(2, 1, 8, 8), depth=False, resolutions=(8,))
    step = supernet_step(supernet, nested, inputs(1), VIT_RECIPE, teacher=original.eval())
    fit(supernet, step, STEPS, 1, VIT_RECIPE)
    after = accuracy(supernet.extract(supernet.largest).eval(), held_out())
    gains = []
    for place in (1, 2):
        arch = level(supernet.space, place / 3)
        small = accuracy(supernet.extract(arch).eval(), held_out())
        rival = fresh(supernet.extract(arch))
        fit(rival, plain_step(rival, inputs(0), VIT_RECIPE, side=8), 2 * STEPS, 0, VIT_RECIPE)
        gains.append((share_of(supernet, arch), small, accuracy(rival.eval(), held_out())))
    print(f"whole {before:.3f} → {after:.3f}; (MACs, of the supernet, alone): {gains}")
    assert after > before - 0.005
    assert all(small > alone - 0.02 for _, small, alone in gains)
