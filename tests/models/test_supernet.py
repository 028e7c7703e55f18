"""One set of weights serves every arch exactly: outputs, gradients and statistics against the extracted network."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contracts.supernet import TOLERANCE, SupernetSuite, error, roughen
from sartor.models import Supernet, build, resize
from sartor.models import supernet as supernet_module
from sartor.models.autoformer import build_autoformer
from sartor.models.supernet import sample_archs
from sartor.records import Arch
from sartor.space import OPERATORS, Space, conv_space
from sartor.space.autoformer import Ranges, autoformer_space


def make(resolution: int = 24, *, channels: int = 3, **sizes) -> Supernet:
    space = conv_space(resolution, **sizes)
    return Supernet(space, partial(build, channels=channels, classes=10, full_resolution=resolution))


class TestConvSupernet(SupernetSuite):
    """Three operators, kernels 3 to 7, gates, widths, depths and four resolutions."""

    make = staticmethod(partial(make, 24, width=32, depth=2))
    images = (3, 24, 24)


class TestGreySupernetOfOneOperator(SupernetSuite):
    make = staticmethod(partial(make, 8, channels=1, width=32, depth=3, operators=("mbconv",)))
    images = (1, 8, 8)
    n_archs = 30


def test_the_contract_collects_something():
    assert sum(name.startswith("test_") for name in dir(SupernetSuite)) >= 6


def test_the_two_hundred_archs_hold_every_option():
    """What ``test_extract_equals_supernet`` draws leaves out no operator, kernel, gate, width, depth or resolution."""
    space = make(24, width=32, depth=2).space
    rng = random.Random(2)
    archs = [space.sample(rng) for _ in range(TestConvSupernet.n_archs)]
    for choice in space.choices:
        assert {arch[choice.name] for arch in archs if choice.name in arch} == set(choice.options)


def where(shared: Tensor, shape: torch.Size) -> tuple[slice, ...]:
    """The part of a shared tensor an arch uses: leading channels, the centre of kernels. Written anew."""
    return tuple(
        slice((have - want) // 2, (have + want) // 2) if dim >= 2 else slice(0, want)
        for dim, (have, want) in enumerate(zip(shared.shape, shape, strict=True))
    )


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_spaces(data):
    """extract ≡ supernet and its weights are the declared parts of the shared ones, whatever the space."""
    torch.manual_seed(0)
    resolution = data.draw(st.sampled_from([8, 11, 24]))
    operators = tuple(data.draw(st.lists(st.sampled_from(OPERATORS), min_size=1, unique=True)))
    channels = data.draw(st.sampled_from([1, 3]))
    net = make(
        resolution,
        channels=channels,
        width=data.draw(st.sampled_from([16, 32, 64])),
        depth=data.draw(st.integers(1, 3)),
        operators=operators,
    )
    if data.draw(st.booleans()):  # spaces made of parts of spaces
        choice = data.draw(st.sampled_from(net.space.choices))
        kept = data.draw(st.lists(st.sampled_from(choice.options), min_size=1, unique=True))
        net = Supernet(net.space.restrict({choice.name: kept}), net.builder)
    roughen(net).eval()
    x = torch.randn(2, channels, resolution, resolution)
    shared = net.tensors()
    for arch in sample_archs(net.space, 3, data.draw(st.integers(0, 2**32))):
        subnet = net.extract(arch)
        for name, tensor in subnet.state_dict().items():
            assert torch.equal(tensor, shared[name][where(shared[name], tensor.shape)])
        with torch.no_grad():
            assert error(subnet(SupernetSuite.resized(x, arch)), net(x, arch)) <= TOLERANCE


def test_gradients_are_those_of_the_subnet_in_their_place():
    """In training mode, in float64: the subnet's gradient, put into zeros of the shared shape, is the supernet's."""
    torch.manual_seed(0)
    net = roughen(make(24, width=32, depth=2)).double().train()
    x, y = torch.randn(4, 3, 24, 24, dtype=torch.double), torch.tensor([1, 2, 3, 4])
    names = {id(tensor): name for name, tensor in net.tensors().items()}
    rng = random.Random(0)
    for arch in [net.space.largest(), net.space.smallest(), *(net.space.sample(rng) for _ in range(12))]:
        subnet = net.extract(arch).double()
        subnet.load_state_dict(net.sliced(arch))  # extract gives float32
        nn.functional.cross_entropy(subnet(resize(x, arch["resolution"])), y).backward()
        net.zero_grad()
        nn.functional.cross_entropy(net(x, arch), y).backward()
        theirs = {name: p.grad for name, p in subnet.named_parameters() if p.requires_grad}
        scale = max(float(g.abs().max()) for g in theirs.values())
        for parameter in net.parameters():
            name = names[id(parameter)]
            assert (parameter.grad is not None) == (name in theirs), name
            if name in theirs:
                expected = torch.zeros_like(parameter)
                expected[where(expected, theirs[name].shape)] = theirs[name]
                assert float((parameter.grad - expected).abs().max()) <= 1e-10 * scale, name


def test_only_the_largest_arch_updates_running_statistics():
    torch.manual_seed(0)
    net = make(8, width=32).train()
    x = torch.randn(8, 3, 8, 8)
    buffers = {name: b.clone() for name, b in net.named_buffers()}

    for arch in sample_archs(net.space, 10, 0):
        if arch != net.largest:
            net(x, arch)
    assert all(torch.equal(buffers[name], b) for name, b in net.named_buffers())

    reference = net.extract(net.largest).train()
    reference(x)
    net(x)
    held = {name: tensor for name, tensor in net.tensors().items() if not isinstance(tensor, nn.Parameter)}
    after = reference.state_dict()
    changed = {name for name in after if name in held and "running" in name}
    assert changed
    for name in changed:
        torch.testing.assert_close(held[name], after[name])
        assert not torch.equal(held[name], buffers[name.replace(".", "/")])
    untouched = set(held) - set(after)
    assert all(torch.equal(held[name], buffers[name.replace(".", "/")]) for name in untouched)

    before = {name: b.clone() for name, b in net.named_buffers()}
    net.eval()(x)
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())


def test_the_largest_arch_is_the_default():
    net = roughen(make(8, width=16, depth=1)).eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(net(x), net(x, net.space.largest()))


def test_a_shared_parameter_is_as_large_as_any_arch_needs():
    """Over a whole space: each parameter's largest shape among all archs is the shared shape, and none is left over."""
    space = conv_space(8, width=32, depth=2)
    net = Supernet(space, partial(build, channels=1, classes=3, full_resolution=8))
    needed: dict[str, list[int]] = {}
    for arch in [*largest_of_each_operator(space), *sample_archs(space, 100, 0)]:
        with torch.device("meta"):
            for name, tensor in net.builder(arch).state_dict().items():
                shape = needed.setdefault(name, list(tensor.shape))
                needed[name] = [max(pair) for pair in zip(shape, tensor.shape, strict=True)]
    assert {name: list(tensor.shape) for name, tensor in net.tensors().items()} == needed


def largest_of_each_operator(space: Space) -> list[Arch]:
    """The largest arch with each combination of operators: random draws alone may miss a largest shape."""
    archs = []
    for first in OPERATORS:
        for second in OPERATORS:
            archs.append(space.restrict({"s0.op": (first,), "s1.op": (second,)}).largest())
    return archs


def test_skeletons_are_let_go(monkeypatch: pytest.MonkeyPatch):
    """Memory stays bounded over many archs, and a network that was let go comes back the same."""
    monkeypatch.setattr(supernet_module, "_SKELETONS", 3)
    net = roughen(make(8, width=16, depth=2)).eval()
    x = torch.randn(2, 3, 8, 8)
    archs = sample_archs(net.space, 8, 1)
    with torch.no_grad():
        first = [net(x, arch) for arch in archs]
        assert all(torch.equal(net(x, arch), y) for arch, y in zip(archs, first, strict=True))
    assert len(net._skeletons) <= 3
    assert not any("skeleton" in name for name in net.state_dict())


@torch.no_grad()
def test_tables_that_are_no_part_of_the_state_are_made_for_each_arch():
    """An AutoFormer knows by such a table how far apart tokens are: the network of an arch has it in the supernet, cut
    out, and built with the same weights; and making it draws no random numbers."""
    ranges = Ranges((16, 24), (1, 2), (1, 2), (1.0, 2.0))
    make = partial(build_autoformer, channels=1, classes=3, resolution=8, patch=2, per_head=4)
    supernet = roughen(Supernet(autoformer_space(ranges), make)).eval()
    x = torch.randn(2, 1, 8, 8)
    for arch in sample_archs(supernet.space, 12, 0):
        drawn = torch.get_rng_state()
        y = supernet.run((x,), arch)
        assert torch.equal(torch.get_rng_state(), drawn)
        alone = make(arch).eval()
        alone.load_state_dict(supernet.sliced(arch))
        assert error(y, alone(x)) <= TOLERANCE
        assert error(supernet.extract(arch)(x), y) <= TOLERANCE
    assert error(supernet.double().run((x.double(),), arch), y.double()) <= TOLERANCE
