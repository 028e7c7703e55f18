"""Muon against the singular value decomposition, and against torch's SGD where it is SGD."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sartor.train.muon import Muon, orthogonalise


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_orthogonalise_nears_the_orthogonal_factor(m, n, scale, seed):
    """Near U Vᵀ of the decomposition, at any scale: the angle between the two is small. Singular values are within
    a factor of 3: three iterations are not meant to lift tiny ones to one."""
    generator = torch.Generator().manual_seed(seed)
    u, s, vh = torch.linalg.svd(torch.randn(m, n, generator=generator, dtype=torch.double), full_matrices=False)
    s = 1 + 2 * torch.rand(len(s), generator=generator, dtype=torch.double)
    matrix = scale * (u * s) @ vh
    found = orthogonalise(matrix.float()).double()
    assert found.shape == (m, n)
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.35
    cosine = float((found * (u @ vh)).sum() / found.norm() / (u @ vh).norm())
    assert cosine > 0.97


def test_what_is_no_filter_takes_nesterov_sgd():
    """Matrices with decay, the rest without, over several steps with a changing rate: equal to torch.optim.SGD."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    theirs = copy.deepcopy(ours)
    matrices, biases = (
        [[p for p in net.parameters() if (p.dim() > 1) == wide] for net in (ours, theirs)] for wide in (True, False)
    )
    muon = Muon([], matrices[0], biases[0], lr=0.1, momentum=0.9, weight_decay=0.01, share=0.3)
    groups = [{"params": matrices[1], "weight_decay": 0.01}, {"params": biases[1], "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    for index in range(6):
        x = torch.randn(4, 5)
        for net, optimiser in ((ours, muon), (theirs, sgd)):
            for group in optimiser.param_groups:
                group["lr"] = 0.1 / (1 + index)
            optimiser.zero_grad()
            net(x).square().sum().mul(0.01).backward()
            optimiser.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_filter_bank_is_brought_to_norm_and_moved_by_the_orthogonal_factor():
    """First step: scaled to norm √out, then moved against the orthogonalised gradient by rate times share."""
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(6, 4, 3, 3))
    filters.grad = torch.randn(6, 4, 3, 3)
    before, gradient = filters.detach().clone(), filters.grad.clone()
    Muon([filters], [], [], lr=0.2, momentum=0.9, weight_decay=1.0, share=0.5).step()
    moved = before * 6**0.5 / before.norm() - filters.detach()
    assert float(torch.linalg.svdvals(moved.flatten(1)).max()) == pytest.approx(0.1, rel=0.35)
    u, _, vh = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    direction = u @ vh
    assert float((moved.flatten(1) * direction).sum() / moved.norm() / direction.norm()) > 0.95


def test_what_has_no_gradient_stays():
    """A step whose archs leave a parameter out does not touch it, nor its momentum."""
    used, unused = (nn.Parameter(torch.randn(4, 4, 3, 3)) for _ in range(2))
    optimiser = Muon([used, unused], [], [], lr=0.1, momentum=0.9, weight_decay=0.0, share=0.3)
    before = unused.detach().clone()
    used.grad = torch.randn_like(used)
    optimiser.step()
    assert torch.equal(unused, before)
    assert unused not in optimiser.state
