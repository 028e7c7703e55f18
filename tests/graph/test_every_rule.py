"""Operators by the dozen: each network holds a family of them, and is cut exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph.nets import Net
from graph.test_exact import error, stirred
from sartor.graph import trace

SEQUENCE, IMAGES, VOLUMES, ROWS = (2, 4, 8), (2, 3, 8, 8), (1, 3, 4, 4, 4), (3, 8)
aten = torch.ops.aten


def family(run: Callable[[Any, Tensor], list[Tensor]], shape: tuple[int, ...], **parts: Any) -> tuple[nn.Module, Any]:
    """A layer of twelve channels, what the operators make of them, and a layer that reads all of it."""
    kind = {2: nn.Linear, 3: nn.Linear, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)]
    first: nn.Module = nn.Linear(8, 12) if kind is nn.Linear else kind(3, 12, 1)
    net = Net(lambda m, x: torch.cat([t.flatten().float() for t in run(m, m.first(x))])[None], first=first, **parts)
    with torch.no_grad():
        n = net(torch.randn(shape)).shape[1]
    net.last, made = nn.Linear(n, 2), net._run
    net._run = lambda m, x: m.last(made(m, x))
    return net, shape


def entrywise(m: Any, h: Tensor) -> list[Tensor]:
    k, p = m.other(h), h.sigmoid()
    compared = ("greater", "greater_equal", "less", "less_equal", "not_equal")
    by_name = [getattr(torch, name)(h, k) for name in ("subtract", "multiply", *compared)]
    by_number = [getattr(aten, name).Scalar(h, 0.5) for name in ("subtract", "multiply", "divide", *compared)]
    plain = [getattr(torch, name)(h) for name in ("absolute", "negative", "fix", "square", "arctan", "arcsinh")]
    plain += [f(h) for f in (F.selu, F.celu, F.relu6, F.relu)]
    inside = [getattr(torch, f"arc{name}")(p * 0.9) for name in ("cos", "sin", "tanh")]
    special = [
        getattr(torch.special, n)(p) for n in ("erf", "erfc", "expit", "expm1", "exp2", "log1p", "logit", "ndtr")
    ]
    in_place = [f(h.clone()) for f in (F.silu, F.selu, F.elu, F.relu6, F.mish)]
    in_place += [F.silu(h.clone(), inplace=True), F.selu(h.clone(), inplace=True), F.elu(h.clone(), inplace=True)]
    in_place += [F.relu6(h.clone(), inplace=True), F.threshold_(h.clone(), 0.1, 0.2), aten.gelu_(h.clone())]
    in_place += [h.clone().fill_(0.3), h.clone().zero_(), h.clone().masked_fill_(k > 0, 0.1), h.clone().copy_(k)]
    rest = [
        torch.arccosh(h.abs() + 1.1), torch.arctan2(h, k), torch.divide(h, k.abs() + 1), F.logsigmoid(h),
        torch.divide(h, k.abs() + 1, rounding_mode="floor"), aten.divide.Scalar_mode(h, 0.3, rounding_mode="floor"),
        torch.special.sinc(h), torch.special.round(h), torch.special.xlogy(p, p), torch.logaddexp(h, k),
        (h > 0) & (k > 0), aten.__and__.Tensor(h > 0, k > 0), aten.__or__.Tensor(h > 0, k > 0), torch.rsub(h, k),
        aten.__and__.Scalar(h > 0, True), aten.__or__.Scalar(h > 0, False), torch.rsub(h, 2.0), F.rrelu(h),
        h.masked_fill(k > 0, 0.5), h.masked_fill(k > 0, h.new_ones(())), torch.where(h > 0, h, k), h.type_as(k),
        torch.where(h > 0, 0.1, k), torch.where(h > 0, h, 0.1), torch.where(h > 0, 0.1, 0.2), h.to(k), h.detach() * 2,
        torch.full_like(h, 0.5) * h, torch.ones_like(h) * k, h.new_full(h.shape, 0.5) * k, h.new_zeros(h.shape) + k,
        h.new_ones(h.shape) * k, h // 0.3, torch.floor_divide(h, k.abs() + 1), F.alpha_dropout(h, 0.1),
        torch.fake_quantize_per_tensor_affine(h, 0.1, 0, -8, 7), F.log_softmax(h, 1), h.cumsum(1), h.cumprod(1),
        h.logcumsumexp(1), h.log_softmax(2),
    ]  # fmt: skip
    return [sum((t.float() for t in [*by_name, *by_number, *plain, *inside, *special, *in_place, *rest]), h)]


def reduced(m: Any, h: Tensor) -> list[Tensor]:
    p = h.sigmoid()
    found: list[Tensor] = []
    for axes in (-1, (1, 2)):
        found += [h.amin(axes), h.var(axes), h.std(axes), *torch.var_mean(h, axes), *torch.std_mean(h, axes)]
        found += [h.logsumexp(axes), h.sum(axes), h.mean(axes), h.nansum(axes), torch.linalg.vector_norm(h, dim=axes)]
        found += [(h > 9).any(axes), (h > -9).all(axes), (h > 0).count_nonzero(axes), h.norm(dim=axes)]
    found += [h.var(), h.std(), *torch.var_mean(h), *torch.std_mean(h), h.sum(), h.mean(), h.min(), h.max(), h.nansum()]
    found += [aten.var.default(h), aten.std.default(h), *aten.var_mean(h), *aten.std_mean(h), *h.aminmax()]
    found += [*h.aminmax(dim=-1), p.prod(), p.prod(-1), (h > -9).all(), (h > 9).any(), h.count_nonzero(), h.norm()]
    found += [torch.linalg.norm(h[0]), torch.linalg.matrix_norm(h), torch.linalg.matrix_norm(h, 1), (h > -9).all(-1)]
    found += [torch.linalg.norm(h[0], "nuc"), h.max(-1).values, h.norm(3, -1), (h > 9).any(-1)]
    found += [aten.frobenius_norm.dim(h, [1, 2]), torch.linalg.norm(h, dim=-1)]
    return found


def told(m: Any, h: Tensor) -> list[Tensor]:
    """Along another dimension than the channels."""
    found = [h.argmax(1), h.argmin(1), h.argsort(1), h.argsort(dim=1, stable=True), h.flip(1), h.rot90(2, (0, 1)).mT]
    found += [*h.median(1), *h.nanmedian(1), *h.mode(1), *h.kthvalue(2, 1), *h.topk(2, 1), *h.sort(1), *h.cummax(1)]
    found += [*h.sort(dim=1, stable=True), h.roll(1, 1), h.quantile(0.3, 1), h.quantile(torch.tensor([0.2, 0.7]), 1)]
    found += [h.nanmean(1), h.unfold(1, 2, 1)]
    free = [t for t in found if t.is_floating_point() and 12 in t.shape]
    return [(h @ h.mT).tril(), *(t.movedim(t.shape.index(12), -1) for t in free)]


def laid_out(m: Any, h: Tensor) -> list[Tensor]:
    k = m.other(h)
    return [
        h.movedim(1, 2), h.moveaxis(1, 0), h.moveaxis((0, 1), (1, 0)), h.movedim((0, 1), (1, 0)), h.swapaxes(1, 2),
        h.swapdims(0, 1), h.ravel(), h[0].t(), h.mH, h.adjoint(), h.view_as(k), h.reshape_as(k), h.repeat(2, 1, 1),
        h.tile(2, 1, 1), torch.hstack([h, k]), torch.concat([h, k], 2), torch.concatenate([h, k], 1),
        *h.tensor_split(3, 2), *h.tensor_split((5, 7), 2), *h.unsafe_chunk(2, 2),
        *h.unsafe_split(6, 2), h.broadcast_to(3, 2, 4, 12), h[:, :1].squeeze((1,)), h.clone().unsqueeze_(0),
        h[:, :1].clone().squeeze_(1), h.clone().transpose_(1, 2), h.clone().detach_(), h.unflatten(2, (3,
        4)).flatten(2),
        h.new_empty(0), h.contiguous(), h.repeat_interleave(2, 1), *h.split([5, 7], 2),
    ]  # fmt: skip


def pictures(m: Any, h: Tensor) -> list[Tensor]:
    line = h.flatten(2)
    found = [
        F.avg_pool1d(line, 2),
        F.max_pool1d(line, 2),
        F.adaptive_avg_pool1d(line, 3),
        F.adaptive_max_pool1d(line, 3),
    ]
    found += [F.adaptive_max_pool2d(h, 3), F.adaptive_avg_pool2d(h, 3), F.lp_pool2d(h, 2, 2)]
    found += [F.interpolate(line, size=5, mode=mode) for mode in ("linear", "nearest", "nearest-exact")]
    found += [
        F.interpolate(h, scale_factor=0.5, mode=mode) for mode in ("bilinear", "nearest", "nearest-exact", "bicubic")
    ]
    found += [F.interpolate(h, 3, mode=mode, antialias=True) for mode in ("bilinear", "bicubic")]
    found += [F.pad(line, (1, 2), "reflect"), F.pad(line, (1, 2), "replicate"), F.pad(h, (1, 2, 1, 0), "circular")]
    found += [F.pad(h, (1, 2, 0, 1), "reflect"), F.pad(h, (1, 1, 1, 1), "replicate"), torch.constant_pad_nd(h, (1, 1))]
    unfolded = F.unfold(h, 2, stride=2)
    found += [unfolded, F.fold(unfolded, 8, 2, stride=2), F.channel_shuffle(h, 3), m.same(h), m.up(line), m.along(line)]
    grid = torch.linspace(-1, 1, 4)[None, :, None, None].expand(h.shape[0], 4, 3, 2)
    return [*found, F.grid_sample(h, grid, align_corners=False)]


def volumes(m: Any, h: Tensor) -> list[Tensor]:
    pooled, at = F.max_pool3d(h, 2, return_indices=True)
    found = [F.avg_pool3d(h, 2), F.max_pool3d(h, 2), F.adaptive_avg_pool3d(h, 2), F.adaptive_max_pool3d(h, 2), m.up(h)]
    found += [F.interpolate(h, 3, mode=mode) for mode in ("trilinear", "nearest", "nearest-exact")]
    return [*found, F.max_unpool3d(pooled, at, 2), m.same(h)]


def waves(m: Any, h: Tensor) -> list[Tensor]:
    """Over rows and time; of the channels none sees another."""
    found: list[Tensor] = []
    for kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
        found += [getattr(torch.fft, kind)(h, dim=1), getattr(torch.fft, f"{kind}2")(h, dim=(0, 1))]
        found += [getattr(torch.fft, f"{kind}n")(h, dim=(1,))]
    f = torch.fft.fft(h, dim=1)
    found += [
        torch.fft.fftshift(f, 1),
        torch.fft.ifftshift(f, 1),
        f.conj(),
        torch.complex(h, h * 2),
        torch.polar(h.abs(), h),
    ]
    found += [
        f.conj().resolve_conj() * torch.fft.fftfreq(4)[:, None],
        f.imag.resolve_neg(),
        h * torch.fft.rfftfreq(6)[:, None],
    ]
    return [part for t in found for part in ((t.real, t.imag) if t.is_complex() else (t,))]


def multiplied(m: Any, h: Tensor) -> list[Tensor]:
    a, b, v, w = m.a, m.b, m.v, h[0]
    many = h[:, None].expand(3, 2, 12)
    return [
        torch.addmm(m.bias, h, a), torch.addmv(torch.ones(3), h, v), torch.addr(a @ a.T, v, w), torch.mm(h,
        a), torch.dot(v, w),
        torch.baddbmm(m.bias, many, a.expand(3, 12, 5)), torch.bmm(many, a.expand(3, 12, 5)), torch.ger(v, w),
        torch.outer(w, v), torch.linalg.multi_dot([h, a, b]), torch.chain_matmul(h, a, b), torch.trace(a @ b),
        torch.cross(a[:, :3], b.T[:, :3], dim=1), torch.linalg.cross(a[:, :3], b.T[:, :3]), torch.linalg.matmul(h, a),
        F.bilinear(h, h, m.both, m.bias), torch.vdot(v, w), torch.mv(h, v), torch.matmul(h, v),
    ]  # fmt: skip


def looked_up(m: Any, h: Tensor) -> list[Tensor]:
    rows = torch.tensor([2, 0])
    at = rows[:, None].expand(2, h.shape[1])
    found = [h.gather(0, at), h.scatter(0, at, h[:2]), h.scatter(0, at, 0.5), h.scatter(0, at, h[:2], reduce="add")]
    found += [h.scatter(0, at, 0.5, reduce="multiply"), h.index_copy(0, rows, h[:2]), h.index_select(0, rows)]
    found += [
        h.index_reduce(0, rows, h[:2], "amax"),
        h.index_fill(0, rows, torch.tensor(0.3)),
        h.index_put((rows,), h[:2]),
    ]
    found += [h.take_along_dim(at, 0), aten._unsafe_index(h, [rows])]
    edges = torch.tensor([-0.5, 0.0, 0.5])
    found += [
        torch.bucketize(h, edges),
        torch.searchsorted(edges, h),
        torch.isin(h.round(), edges),
        torch.isin(h.round(), 0),
    ]
    return [torch.cat([t.float() for t in found]) * h.sum(0)]


def made(m: Any, h: Tensor) -> list[Tensor]:
    """Numbers told by their place, beside channels."""
    time = torch.hann_window(4) + torch.hamming_window(4) + torch.linspace(0, 1, 4) + torch.logspace(0, 1, 4)
    time = time + torch.eye(4).sum(0) + torch.eye(4, 5).sum(1) + torch.arange(2.0, 6) + torch.scalar_tensor(2.0)
    pairs = (
        torch.tril_indices(4, 4).sum(0)[:4] + torch.triu_indices(4, 4).sum(0)[:4] + F.one_hot(torch.arange(4), 4).sum(1)
    )
    empty = torch.empty(2, 4, 12).copy_(h)
    return [h * (time + pairs)[:, None], empty, torch.full((12,), 0.5) * h, torch.zeros(12) + h, torch.ones(12) * h]


FAMILIES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "entry by entry": lambda: family(entrywise, SEQUENCE, other=nn.Linear(12, 12)),
    "one number of many": lambda: family(reduced, SEQUENCE),
    "told by their number": lambda: family(told, SEQUENCE),
    "laid out anew": lambda: family(laid_out, SEQUENCE, other=nn.Linear(12, 12)),
    "pictures": lambda: family(
        pictures, IMAGES, same=nn.Conv2d(12, 10, 3, padding="same"), up=nn.ConvTranspose1d(12, 10, 2),
        along=nn.Conv1d(12, 10, 3, padding="same"),
    ),
    "volumes": lambda: family(
        volumes, VOLUMES, up=nn.ConvTranspose3d(12, 10, 2), same=nn.Conv3d(12, 10, 3, padding="same")
    ),
    "waves": lambda: family(waves, SEQUENCE),
    "products": lambda: family(
        multiplied, ROWS, a=nn.Parameter(torch.randn(12, 5)), b=nn.Parameter(torch.randn(5, 12)),
        v=nn.Parameter(torch.randn(12)), bias=nn.Parameter(torch.randn(5)), both=nn.Parameter(torch.randn(5, 12, 12)),
    ),
    "looked up": lambda: family(looked_up, ROWS),
    "made of nothing": lambda: family(made, SEQUENCE),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_cut_exactly(name: str) -> None:
    torch.manual_seed(0)
    net, shape = FAMILIES[name]()
    x = torch.randn(shape)
    graph = trace(stirred(net), x)
    assert not graph.frozen
    tied = {tie.tensor for group in graph.groups for tie in group.ties}
    assert {"first.weight", "first.bias"} <= tied
    assert all(isinstance(why, str) for name in graph.tensors for why in graph.why_kept(name))
    cut = graph.random_cut(0.5)
    small, masked = graph.as_graph(cut).eval(), graph.mask(cut)
    with torch.no_grad():
        for given in (x, torch.randn(shape)):
            assert error(small(given), masked(given)) < 1e-5
        assert error(masked(x), net(x)) > 1e-3, "the cut is felt"
