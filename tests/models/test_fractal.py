"""FractalNet (P286): what its columns are, and that each works alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.fractal import Fractal
from sartor.models.fractal import FractalNet
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.steps import plain_step
from train.digits import RECIPE, calibration, fit, held_out, inputs


def unfolded(block: Fractal, x: Tensor, columns: int, used: dict[int, int]) -> Tensor:
    """f_C by its recursion, an implementation of its own: f₁ = conv, f_C(x) = mean(conv(x), f₍C₋₁₎(f₍C₋₁₎(x)))."""

    def next_of(column: int) -> nn.Module:
        used[column] = used.get(column, -1) + 1
        return block.columns[column][used[column]]

    def paths(z: Tensor, c: int) -> list[Tensor]:
        """What the join at the end of f_c sees: its shallow convolution, then what its second half's join sees."""
        shallow = next_of(columns - c)(z)
        if c == 1:
            return [shallow]
        middle = torch.stack(paths(z, c - 1)).mean(0)
        return [shallow, *paths(middle, c - 1)]

    return torch.stack(paths(x, columns)).mean(0)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_block_is_the_fractal(columns: int) -> None:
    torch.manual_seed(0)
    block = Fractal(3, 8, columns).eval()
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(block(x), unfolded(block, x, columns, {}))
    depths = [sum(isinstance(m, ConvNormAct) for m in block.extract(c)) for c in range(columns)]
    assert depths == [2**c for c in range(columns)]


def test_a_column_alone_is_what_is_extracted() -> None:
    torch.manual_seed(0)
    net = FractalNet(1, 10, widths=(6, 8), columns=3).eval()
    x = torch.randn(4, 1, 8, 8)
    for column in range(3):
        alone = net.extract(column)
        torch.testing.assert_close(alone(x), net(x, column))
        convolutions = [m for m in alone.modules() if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == 2 * 2**column
    assert not torch.allclose(net(x), net(x, 2))


def test_some_path_is_always_left() -> None:
    torch.manual_seed(0)
    block = Fractal(3, 4, 3).train()
    seen = {tuple(block(torch.ones(2, 3, 4, 4)).flatten().tolist()) for _ in range(30)}
    assert len(seen) > 3, "different paths are dropped"
    assert all(len(values) == 2 * 4 * 16 for values in seen)


@pytest.mark.claim
def test_every_column_works_alone_and_deeper_ones_better() -> None:
    """After one training with drop-path (P286): from shallow to deep each column classifies, and better each time but
    for a point of noise; all together do not beat the deepest by more than two."""
    torch.manual_seed(0)
    net = FractalNet(1, 10, widths=(8, 16), columns=3)
    fit(net, plain_step(net, inputs(0), RECIPE, side=8), 1000, 0, RECIPE)
    right = [accuracy(recalibrate(net.extract(c), calibration()).eval(), held_out()) for c in range(3)]
    together = accuracy(net.eval(), held_out())
    print(right, together)
    assert right[0] > 0.8
    assert right[1] > right[0] - 0.01
    assert right[2] > right[1] - 0.01
    assert right[2] > right[0]
    assert right[2] > together - 0.02
