"""Every proxy against an identity, a sum written out by hand or finite differences; and what all of them must keep."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.models.buildable import nb201_problem, recurrent_problem, vit_problem
from sartor.search.proxies import proxies, proxy_of
from sartor.search.proxies.asvit import condition_score, length_distortion, ntk_condition
from sartor.search.proxies.deepmad import convolutions, deepmad, effectiveness
from sartor.search.proxies.gradient import fisher, grad_norm, grasp, plain, snip
from sartor.search.proxies.jacobian import epe_nas, jacob_cov
from sartor.search.proxies.naswot import agreement, kernel_score, naswot
from sartor.search.proxies.recurrent import hidden_covariance
from sartor.search.proxies.replica import error
from sartor.search.proxies.size import macs, params
from sartor.search.proxies.synflow import synflow, synflow_by_weight
from sartor.search.proxies.zen import draw_gaussian, zen, zen_of


class Texts(nn.Module):
    """Tokens, a recurrent layer, a word for each."""

    def __init__(self, hidden: int = 12):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.memory = nn.LSTM(6, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.memory(self.embed(tokens))[0])


def small() -> nn.Sequential:
    torch.manual_seed(1)
    layers = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Conv2d(4, 6, 3))
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def images(n: int = 8) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(n, 2, 8, 8, generator=draw), torch.arange(n) % 3


def problems() -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    x, y = images()
    cells, transformer = nb201_problem(8, channels=4, cells=1), vit_problem(16)
    torch.manual_seed(0)
    inputs = {"nb201": cells.inputs(cells.space.smallest(), 6)[0], "vit": torch.randn(6, 3, 16, 16)}
    tokens, numbers, lost = torch.randint(0, 11, (6, 9)), torch.randn(7, 5), torch.full((4, 2, 2), math.nan)
    return {
        "convolutional": (small(), x, y),
        "disconnected": (cells.build(cells.space.smallest()), inputs["nb201"], torch.arange(6)),
        "cells": (cells.build(cells.space.sample(random.Random(2))), inputs["nb201"], torch.arange(6)),
        "transformer": (transformer.build(transformer.space.smallest()), inputs["vit"], torch.arange(6)),
        "recurrent": (Texts(), tokens, tokens.roll(1, 1)),
        "regression": (nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 1)), numbers, numbers[:, :1]),
        "no parameters": (nn.Flatten(), torch.randn(4, 2, 2), torch.arange(4)),
        "not finite": (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), lost, torch.arange(4) % 3),
    }


@pytest.fixture(scope="module")
def tried() -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    return problems()


@pytest.mark.parametrize("name", proxies)
def test_a_proxy_gives_a_number_and_leaves_everything_as_it_was(name: str, tried):
    for kind, (model, x, y) in tried.items():
        for training in (True, False):
            model.train(training)
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, 0.5)
            before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
            wanted = [p.requires_grad for p in model.parameters()]
            given, drawn = x.clone(), torch.get_rng_state()
            score, again = (proxies[name](model, x, y) for _ in range(2))
            assert type(score) is float, kind
            assert not math.isinf(score), kind
            assert score == again or (math.isnan(score) and math.isnan(again)), kind
            assert all(torch.equal(held, before[key]) for key, held in model.state_dict().items()), kind
            assert [m.training for m in model.modules()] == modes
            assert [p.requires_grad for p in model.parameters()] == wanted
            assert all((p.grad == 0.5).all() for p in model.parameters()), kind
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()), kind
            assert torch.equal(torch.get_rng_state(), drawn), kind
            assert torch.equal(x, given) or kind == "not finite"
            assert not x.requires_grad


DEFINED = {
    "convolutional": set(proxies) - {"hidden_covariance"},
    "cells": set(proxies) - {"hidden_covariance"},
    "transformer": set(proxies) - {"hidden_covariance"},
    "recurrent": set(proxies) - {"naswot", "zen", "deepmad", "length_distortion"},
    "regression": {"params", "macs", "l2_norm", "grad_norm", "snip", "plain", "grasp", "fisher", "synflow", "naswot"},
}
"""An LSTM has no ReLU, tokens cannot be moved, a chain of linear layers has no convolution."""


@pytest.mark.parametrize("kind", DEFINED)
def test_where_a_proxy_has_a_meaning_it_has_a_value(kind: str, tried):
    model, x, y = tried[kind]
    lost = [name for name in sorted(DEFINED[kind]) if not math.isfinite(proxies[name](model, x, y))]
    assert not lost


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="synflow"):
        proxy_of("synflaw")


def test_synflow_is_conserved_layer_by_layer():
    """Of a chain without biases, every layer's sum is R itself: |W1|, |W2|, … applied to ones, summed."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for wide, narrow in ((7, 5), (5, 9), (9, 3)):
        layers += [nn.Linear(wide, narrow, bias=False), nn.ReLU(), nn.BatchNorm1d(narrow)]
    model = nn.Sequential(*layers)
    x = torch.randn(4, 7)
    flow = torch.ones(7, dtype=torch.float64)
    for layer in model:
        flow = layer.weight.detach().double().abs() @ flow if isinstance(layer, nn.Linear) else flow
    by_weight = synflow_by_weight(model, x)
    assert [found.item() for found in by_weight] == pytest.approx([flow.sum().item()] * 3)
    assert synflow(model, x, torch.zeros(4)) == pytest.approx(3 * flow.sum().item())
    assert synflow(model, 1000 * x, torch.zeros(4)) == synflow(model, x, torch.zeros(4))  # no data


def test_snip_and_plain_are_what_removing_a_weight_does_to_first_order():
    """d L(θ with weight i scaled by c) / dc at c = 1, by central differences."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 2
    effects = []
    step = 1e-5
    for layer in (model[0], model[2]):
        for place in range(layer.weight.numel()):
            losses = []
            for c in (1 + step, 1 - step):
                twin = copy.deepcopy(model)
                weight = next(m for m, n in zip(twin, model, strict=True) if n is layer).weight
                with torch.no_grad():
                    weight.view(-1)[place] *= c
                losses.append(float(F.cross_entropy(twin(x), y)))
            effects.append((losses[0] - losses[1]) / (2 * step))
    assert snip(model, x, y) == pytest.approx(np.abs(effects).sum(), rel=1e-6)
    assert plain(model, x, y) == pytest.approx(np.sum(effects), rel=1e-6, abs=1e-9)


def test_grad_norm_of_one_layer_is_its_gradients():
    torch.manual_seed(0)
    layer, x, y = nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3
    slope = (layer(x).softmax(1) - F.one_hot(y, 3)) / 5  # of cross-entropy, by the logits
    assert grad_norm(layer, x, y) == pytest.approx(float((slope.T @ x).norm()), rel=1e-5)


def test_grasp_is_how_the_gradients_norm_changes_along_the_weights():
    """−θᵀ H g = −½ d‖g(cθ)‖² / dc at c = 1; biases are no part of it."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False)).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 2

    def squared(c: float) -> float:
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for weight in twin.parameters():
                weight *= c
        F.cross_entropy(twin(x), y).backward()
        return sum(float(weight.grad.square().sum()) for weight in twin.parameters())

    step = 1e-5
    slope = (squared(1 + step) - squared(1 - step)) / (2 * step)
    assert grasp(model, x, y) == pytest.approx(-0.5 * slope, rel=1e-5)


def test_fisher_of_one_layer_is_written_out():
    torch.manual_seed(0)
    layer, x, y = nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3
    out = layer(x).detach()
    slope = (out.softmax(1) - F.one_hot(y, 3)) / 5
    assert fisher(layer, x, y) == pytest.approx(float(0.5 * (out * slope).square().mean(0).sum()), rel=1e-5)


def test_fisher_sums_over_positions_first_and_sees_what_an_inplace_relu_overwrites():
    conv = nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
    x = torch.rand(3, 1, 2, 2) + 0.1
    y = torch.rand(3, 2)
    for inplace in (False, True):
        model = nn.Sequential(conv, nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        mean = x.mean((2, 3))  # the first channel's output; the second is negative everywhere
        slope = 2 * (mean[:, 0] - y[:, 0]) / 6  # of the mean squared error of six numbers
        expected = 0.5 * (mean[:, 0] * slope).square().mean()
        assert fisher(model, x, y) == pytest.approx(float(expected), rel=1e-5)


def test_jacob_cov_of_a_linear_layer_knows_that_all_jacobians_are_one():
    """One Jacobian for all: correlations are ones, eigenvalues n and zeros."""
    x, y = torch.randn(4, 6), torch.arange(4)
    k = 1e-5
    expected = -(math.log(4 + k) + 1 / (4 + k) + 3 * (math.log(k) + 1 / k))
    assert jacob_cov(nn.Linear(6, 4), x, y) == pytest.approx(expected, rel=1e-4)
    assert math.isnan(jacob_cov(nn.ReLU(), -x.abs(), y))  # no gradient anywhere


def test_jacob_cov_and_epe_nas_of_jacobians_that_are_known():
    """½ x² has the Jacobian x: correlations are the inputs' own."""

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x.square()

    x = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    correlations = np.corrcoef(x.numpy())
    eigenvalues = np.linalg.eigvalsh(correlations)
    assert jacob_cov(Half(), x, y) == pytest.approx(-np.sum(np.log(eigenvalues + 1e-5) + 1 / (eigenvalues + 1e-5)))
    classes = [np.log(np.abs(correlations[np.ix_(at, at)]) + 1e-5).sum() for at in ([0, 1, 2], [3, 4], [5])]
    assert epe_nas(Half(), x, y) == pytest.approx(np.abs(classes).sum())
    wide = torch.randn(6, 101, dtype=torch.float64, generator=torch.Generator().manual_seed(1))  # 101 classes
    correlations = np.corrcoef(wide.numpy())
    mean = [np.log(np.abs(correlations[np.ix_(a, a)]) + 1e-5).sum() / len(a) for a in ([0, 1, 2], [3, 4], [5])]
    expected = sum(abs(a - b) for a in mean for b in mean) / 3
    assert epe_nas(Half(), wide, y) == pytest.approx(expected)


def test_naswots_kernel_counts_what_two_codes_share():
    codes = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.bool)
    kernel = agreement(codes)
    assert kernel.tolist() == [[4, 2, 0], [2, 4, 2], [0, 2, 4]]  # by hand: 4 minus the bits that differ
    assert kernel_score(kernel) == pytest.approx(math.log(4 * (16 - 4) - 2 * 8))  # the determinant, by its first row


@pytest.mark.parametrize("inplace", [False, True])
def test_naswot_of_a_relu_is_its_inputs_signs_in_modules_and_functions(inplace: bool):
    class Function(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x.clone(), inplace=inplace)

    x = torch.tensor([[1.0, 1, -1, -1], [1, -1, -1, 1], [-1, -1, 1, 1]])
    expected = kernel_score(agreement(x > 0))
    for model in (Function(), nn.Sequential(nn.Identity(), nn.ReLU())):
        assert naswot(model, x, torch.zeros(3)) == pytest.approx(expected)
    assert naswot(nn.Sequential(nn.ReLU(), nn.ReLU()), x, torch.zeros(3)) == pytest.approx(expected + 3 * math.log(2))
    assert math.isnan(naswot(nn.Linear(4, 2), x, torch.zeros(3)))  # no ReLU


def chain(norm: bool) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for wide, narrow in ((2, 5), (5, 7), (7, 4)):
        layers += [nn.Conv2d(wide, narrow, 3, padding=1), nn.BatchNorm2d(narrow, eps=1e-20) if norm else nn.Identity()]
    model = nn.Sequential(*layers).double().train()
    draw_gaussian(model)
    return model


def test_zen_puts_back_the_scales_that_batch_norm_takes_out():
    """Scaling a layer's weights by c is invisible behind batch norm, and adds log c to the score, as it does to that of
    the network without norms."""
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    near = x + 0.01 * torch.randn_like(x)
    for norm in (True, False):
        model = chain(norm)
        before, seen = zen_of(model, x, near), model(x)
        with torch.no_grad():
            model[2].weight *= 7
        assert zen_of(model, x, near) == pytest.approx(before + math.log(7))
        if norm:
            assert torch.allclose(model(x), seen)


def test_zen_of_a_linear_chain_is_the_norm_of_what_comes_through():
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    change = torch.randn_like(x)
    through = change
    model = chain(norm=False)
    for layer in model:
        through = F.conv2d(through, layer.weight, padding=1) if isinstance(layer, nn.Conv2d) else through
    expected = math.log(0.01 * float(through.flatten(1).norm(dim=1).mean()))
    assert zen_of(model, x, x + 0.01 * change) == pytest.approx(expected)


def test_zen_looks_before_the_pooling_and_at_no_weights():
    x, y = images()
    model = small().eval()
    model[3] = nn.Identity()  # a dropout, which would draw other units
    score = zen(model, x, y, repeats=1)
    with torch.no_grad():
        model[0].weight *= 3
    assert zen(model, x, y, repeats=1) == score  # weights are drawn anew
    assert zen(nn.Sequential(*model[:6]), x, y, repeats=1) == pytest.approx(
        score, abs=1e-5
    )  # what comes after has no part


def test_deepmads_entropy_of_a_chain_is_written_out():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 5, 1, 2, groups=4), nn.Conv2d(8, 16, 3, 2, 1))
    x = torch.randn(2, 3, 16, 16)
    first, last = math.log(3 * 9) + math.log(8 * 25 / 4), math.log(8 * 9)
    expected = math.log(8 * 8 * 8) * first + 8 * math.log(4 * 4 * 16) * (first + last)
    assert deepmad(model, x, torch.zeros(2)) == pytest.approx(expected)
    assert effectiveness(convolutions(model, x)) == pytest.approx(3 / (27 * 50 * 72) ** (1 / 3))


def test_length_distortion_of_a_linear_map_is_that_of_its_matrix():
    """A scaled rotation by c stretches every curve by c: a circle of radius √d through ten points."""
    torch.manual_seed(0)
    d, c = 6, 3.0
    layer = nn.Linear(d, d, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(c * torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q)
    x = torch.randn(4, d, dtype=torch.float64)
    assert length_distortion(layer, x, torch.zeros(4)) == pytest.approx(10 * c * math.sqrt(d))
    normed = nn.Sequential(layer, nn.LayerNorm(d).double())
    assert length_distortion(normed, x, torch.zeros(4)) == pytest.approx(10 * c * math.sqrt(d))


def test_ntk_condition_of_a_linear_layer_is_that_of_its_inputs():
    """Gradients of the summed outputs are the example itself, once an output, and a one for each bias."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, dtype=torch.float64)
    kernel = (4 * (x @ x.T) + 4).numpy()
    eigenvalues = np.linalg.eigvalsh(kernel)
    expected = -math.log(eigenvalues[-1] / eigenvalues[0])
    assert ntk_condition(nn.Linear(5, 4).double(), x, torch.zeros(3)) == pytest.approx(expected)
    assert condition_score(np.diag([1.0, 10.0])) == pytest.approx(-math.log(10))
    assert math.isnan(ntk_condition(nn.Linear(5, 4).double(), x[[0, 0]], torch.zeros(2)))  # two are one


class Steps(nn.Module):
    """The same memory as ``Texts``, called once a step."""

    def __init__(self, texts: Texts):
        super().__init__()
        self.embed, self.out = texts.embed, texts.out
        self.cell = nn.LSTMCell(6, texts.memory.hidden_size).double()
        self.cell.load_state_dict({name[: -len("_l0")]: value for name, value in texts.memory.state_dict().items()})

    def forward(self, tokens: Tensor) -> Tensor:
        state, states = None, []
        for word in self.embed(tokens).unbind(1):
            state = self.cell(word, state)
            states.append(state[0])
        return self.out(torch.stack(states, 1))


def test_hidden_covariance_is_of_units_over_examples_and_steps():
    torch.manual_seed(0)
    model, tokens = Texts().double(), torch.randint(0, 11, (5, 7))
    states = model.memory(model.embed(tokens))[0].detach().numpy()
    columns = np.array([states[:, :, unit].ravel() for unit in range(12)])
    eigenvalues = np.clip(np.linalg.eigvalsh(np.corrcoef(columns)), 0, None)
    expected = -np.sum(np.log(eigenvalues + 1e-5) + 1 / (eigenvalues + 1e-5))
    assert hidden_covariance(model, tokens, tokens) == pytest.approx(expected)
    assert hidden_covariance(model, tokens, tokens, layer="memory") == pytest.approx(expected)
    assert hidden_covariance(model, tokens, tokens, layer="out") != pytest.approx(expected)
    with pytest.raises(InputError, match="memory"):
        hidden_covariance(model, tokens, tokens, layer="memry")
    assert hidden_covariance(Steps(model), tokens, tokens) == pytest.approx(expected)
    model.memory.batch_first = False  # the same numbers: steps first, now
    assert math.isfinite(hidden_covariance(model, tokens, tokens))


def test_hidden_covariance_finds_the_cell_of_a_searched_network():
    problem = recurrent_problem(11, nodes=2, width=8, steps=5)
    torch.manual_seed(0)
    arch = problem.space.sample(random.Random(0))
    model, (tokens,) = problem.build(arch), problem.inputs(arch, 6)
    score = hidden_covariance(model, tokens, tokens)
    assert score == hidden_covariance(model, tokens, tokens, layer="memory")
    assert score <= -7.9  # eight units: −8 where no two hold the same, less where some do


def test_sizes_are_counted():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(4 * 36, 3))
    x, y = images()
    assert params(model, x, y) == 4 * 9 + 4 + 144 * 3 + 3
    assert macs(model, x, y) == 4 * 36 * 9 + 144 * 3
    tokens = torch.randint(0, 11, (5, 7))
    assert macs(Texts(12), tokens, tokens) == 7 * (4 * 12 * (6 + 12) + 12 * 11)


def test_errors_are_of_classes_or_numbers():
    out = torch.randn(4, 7, 5)
    labels = torch.randint(0, 5, (4, 7))
    assert error(out, labels) == pytest.approx(F.cross_entropy(out.permute(0, 2, 1), labels))
    assert error(out, out + 1) == pytest.approx(1)
