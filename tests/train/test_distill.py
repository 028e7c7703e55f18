"""Distillation against its formula, and what a step with a teacher leaves in its students."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.models import Supernet
from sartor.train.device import autocast
from sartor.train.distill import soft_targets
from sartor.train.schedule import largest_only
from sartor.train.steps import family_step, plain_step, supernet_step
from train.digits import CPU, RECIPE, builder, digits, inputs, small_space

seeds = st.integers(0, 2**32 - 1)
BF16_TOLERANCE = 0.02
"""Of the gradient's length: logits go back through bf16 where the machine computes in it, rounded from another sum."""


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@given(seeds, st.integers(1, 6), st.integers(2, 12), st.floats(0.25, 8))
def test_soft_targets_is_the_divergence_and_its_gradient_the_difference(seed, batch, classes, tau):
    """tau² · KL(p‖q) a sample, p and q softened; its gradient is tau · (q − p) / batch."""
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 3, (2, batch, classes))
    p, q = softmax(teacher / tau), softmax(student / tau)
    leaf = torch.tensor(student, dtype=torch.float32, requires_grad=True)
    loss = soft_targets(leaf, torch.tensor(teacher, dtype=torch.float32), tau=tau)
    expected = tau**2 * float(np.sum(p * (np.log(p) - np.log(q)))) / batch
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    loss.backward()
    np.testing.assert_allclose(leaf.grad.numpy(), tau * (q - p) / batch, rtol=1e-3, atol=1e-5)


@given(seeds)
def test_a_student_that_agrees_has_nothing_to_learn(seed):
    z = torch.randn(4, 7, generator=torch.Generator().manual_seed(seed))
    assert float(soft_targets(z, z + 3)) == pytest.approx(0, abs=1e-5)  # logits are free up to a constant
    assert float(soft_targets(z.bfloat16(), -5 * z)) > 0


def data(n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    return digits().train.take(np.arange(n)), torch.from_numpy(digits().train.labels[:n])


@settings(max_examples=5)
@given(st.floats(0, 1), st.floats(0.5, 4))
def test_a_family_step_gives_each_network_its_own_gradient(share, tau):
    """The first learns from the labels; the others (1 − share) from its soft targets and share from the labels."""
    torch.manual_seed(0)
    space = small_space((4, 8))
    family = [builder(arch).train() for arch in (space.largest(), space.smallest(), space.largest())]
    twins = copy.deepcopy(family)
    make = inputs(3)
    images, labels = data()
    step = family_step(family, (8, 8, 8), make, RECIPE, labels_share=share, tau=tau)
    loss = step(images, labels, 0.5, 7)

    x, y = make(images, labels, 7)
    losses, soft = [], None
    for network, twin in zip(family, twins, strict=True):
        with autocast(CPU):
            logits = twin(x).float()
        total = F.cross_entropy(logits, y, label_smoothing=RECIPE.label_smoothing)
        if soft is None:
            soft = logits.detach()
        else:
            p, log_q = torch.softmax(soft / tau, 1), torch.log_softmax(logits / tau, 1)
            divergence = tau**2 * (p * (p.log() - log_q)).sum() / len(x)
            total = (1 - share) * divergence + share * total
        total.backward()
        losses.append(float(total.detach()))
        found, expected = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (network, twin))
        assert float((found - expected).norm()) < BF16_TOLERANCE * float(expected.norm())
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


@settings(max_examples=5)
@given(st.floats(0, 1), st.booleans())
def test_a_teacher_beside_the_family_teaches_all_but_the_one_that_leads(share, leads):
    """And is left as it was: no gradient, no statistics of these images."""
    torch.manual_seed(0)
    space = small_space((4, 8))
    family = [builder(arch).train() for arch in (space.largest(), space.smallest())]
    teacher = builder(space.largest()).eval()
    before = copy.deepcopy(teacher.state_dict())
    twins = copy.deepcopy(family)
    make, (images, labels) = inputs(3), data()
    family_step(family, (8, 8), make, RECIPE, labels_share=share, teacher=teacher, leads=leads)(images, labels, 0.5, 7)
    x, y = make(images, labels, 7)
    with torch.no_grad(), autocast(CPU):
        soft = torch.softmax(teacher(x).float(), 1)
    for place, (network, twin) in enumerate(zip(family, twins, strict=True)):
        with autocast(CPU):
            logits = twin(x).float()
        total = F.cross_entropy(logits, y, label_smoothing=RECIPE.label_smoothing)
        if place or not leads:
            total = (1 - share) * F.kl_div(logits.log_softmax(1), soft, reduction="batchmean") + share * total
        total.backward()
        found, expected = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (network, twin))
        assert float((found - expected).norm()) < BF16_TOLERANCE * float(expected.norm())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(t, before[n]) for n, t in teacher.state_dict().items())
    with pytest.raises(ValueError, match="leads"):
        family_step(family, (8, 8), make, RECIPE, leads=False)


def test_a_plain_step_is_the_supernets_for_its_largest_arch():
    torch.manual_seed(0)
    space = small_space((4, 8))
    net = Supernet(space, builder).train()
    alone = net.extract(space.largest()).train()
    images, labels = data()
    losses = [
        supernet_step(net, largest_only, inputs(1), RECIPE)(images, labels, 0.5, 3),
        plain_step(alone, inputs(1), RECIPE, side=8)(images, labels, 0.5, 3),
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for name, parameter in alone.named_parameters():
        shared = net.tensors()[name].grad
        assert float((shared - parameter.grad).norm()) <= BF16_TOLERANCE * float(parameter.grad.norm()) + 1e-6, name


def test_inputs_are_a_function_of_seed_and_step():
    images, labels = data()
    a, b, other_step, other_seed = (
        inputs(seed)(images, labels, step)[0] for seed, step in ((1, 4), (1, 4), (1, 5), (2, 4))
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, other_step)
    assert not torch.equal(a, other_seed)
