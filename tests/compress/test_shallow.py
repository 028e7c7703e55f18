"""Deep stacks of residual layers, and the same layers side by side (P142, arXiv:2309.08414)."""

from __future__ import annotations

import itertools
from statistics import mean

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.compress.fuse import parallel, runs
from sartor.graph import trace
from sartor.train.loop import Recipe
from train.digits import fit, held_out, inputs, plain_step

RECIPE = Recipe(batch_size=64, optimiser="adamw", peak_lr=1e-2, weight_decay=0.0, label_smoothing=0.0)
STEPS = 400


class Layer(nn.Module):
    """§4.1: what one convolution adds."""

    def __init__(self, filters: int, kernel: int):
        super().__init__()
        self.convolution = nn.Conv2d(filters, filters, kernel, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.convolution(x))


def deep(layers: int, filters: int, kernel: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    stack = [Layer(filters, kernel) for _ in range(layers)]
    return nn.Sequential(
        nn.Conv2d(1, filters, kernel, padding="same"),
        *stack,
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * filters, 10),
    )


def shallow(layers: int, filters: int, kernel: int, seed: int) -> nn.Module:
    graph = trace(deep(layers, filters, kernel, seed).eval(), torch.zeros(2, 1, 8, 8))
    (run,) = runs(graph)
    return parallel(graph, run)


def convolutions_in_a_row(model: nn.Module) -> int:
    """On the longest path from the images to the answer."""
    depth: dict[torch.fx.Node, int] = {}
    for node in torch.export.export(model.eval(), (torch.zeros(2, 1, 8, 8),)).graph.nodes:
        own = int("conv2d" in str(node.target))
        depth[node] = own + max((depth[n] for n in node.all_input_nodes), default=0)
    return max(depth.values())


def loss(model: nn.Module) -> float:
    model.eval()
    with torch.no_grad():
        return mean(float(F.cross_entropy(model(x), y)) for x, y in held_out())


def test_side_by_side_a_stack_is_one_layer_deep() -> None:
    assert convolutions_in_a_row(deep(5, 4, 3, 0)) == 1 + 5
    assert convolutions_in_a_row(shallow(5, 4, 3, 0)) == 1 + 1
    sizes = [sum(p.numel() for p in make(5, 4, 3, 0).parameters()) for make in (deep, shallow)]
    assert sizes[0] == sizes[1]


@pytest.mark.claim
def test_deep_and_shallow_stacks_are_as_good() -> None:
    """Of the same layers and numbers of weights, over a grid of layers, filters and kernels: held-out losses differ by
    no more than those of one stack over seeds do."""
    gaps, spreads = [], []
    for layers, filters, kernel in itertools.product((2, 4), (8, 16), (3, 5)):
        losses: dict[str, list[float]] = {"deep": [], "shallow": []}
        for seed in range(4):
            for name, make in (("deep", deep), ("shallow", shallow)):
                model = make(layers, filters, kernel, seed).train()
                fit(model, plain_step(model, inputs(seed), RECIPE, side=8), STEPS, seed, RECIPE)
                losses[name].append(loss(model))
        gaps.append(mean(losses["shallow"]) - mean(losses["deep"]))
        spreads += [max(found) - min(found) for found in losses.values()]
        print(
            f"{layers} layers of {filters} filters of {kernel}: "
            + str({n: f"{mean(v):.4f}" for n, v in losses.items()})
        )
    print(f"gaps {[round(gap, 4) for gap in gaps]}, spreads over seeds {mean(spreads):.4f} on average")
    assert abs(mean(gaps)) < mean(spreads)
    assert max(map(abs, gaps)) < max(spreads)
