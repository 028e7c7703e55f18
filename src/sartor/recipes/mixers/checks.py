"""What a part of a causal language model must keep to, whatever it computes: shape, finite numbers, no look ahead, no
look aside, no memory, and a cost that grows no faster than tokens times their logarithm.

They are run in float64, where a leak and a rounding error are ten orders of magnitude apart, on fresh weights, on
weights that were moved (what begins with a gate of zero looks through it later), and again on those that were trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.measure.counts import Counts, counts_of

LENGTHS = (1, 8, 33)
"""Tokens: one, an even number, and no multiple of what chunks have."""
ROWS = 3
TOLERANCE = 1e-6
"""Of the output's scale: far above what float64 rounds, and what a part that computes in float32 itself does."""
MOVED = 0.1
"""Deviation of what is added to each weight."""
COUNTED = (512, 1024, 2048)
"""Tokens that costs are counted at."""
KNOWN = ("aten._fft_r2c", "aten._fft_c2r", "aten._fft_c2c")
"""Operators that the counter has no rule for, whose cost is tokens times their logarithm."""


@dataclass(frozen=True)
class Growth:
    """With which power of the number of tokens the work (MACs and elementwise) and the memory traffic grow, where
    lengths double; MACs a token at the longest."""

    work: float
    traffic: float
    macs_per_token: float


def check(part: nn.Module, width: int, *, trained: bool = False) -> None:
    """Raises InputError with the first thing that ``part``, [n, t, width] to the same, does not keep to. Its weights
    are left as they are; its mode is set to eval. What is ``trained`` is looked at as it is, and not moved."""
    with doubled(part):
        held = {name: tensor.clone() for name, tensor in part.state_dict().items()}
        for moved in (False,) if trained else (False, True):
            if moved:
                _move(part)
            for training in (False, True):
                part.train(training)
                _forgets(part, width)
                for tokens in LENGTHS:
                    x = _inputs(ROWS, tokens, width)
                    _shape(part, x, finite=not moved)
                    _causal(part, x)
                    _alone(part, x)
        part.load_state_dict(held)
    part.eval()


def growth(part: nn.Module, width: int, most: float) -> Growth:
    """How the counted cost of ``part`` grows with its tokens: the power between two doublings, without what is there
    for none. Raises InputError where that is more than ``most``, or where something computes that is not counted."""
    small, middle, large = (counts_of(part, torch.zeros(1, tokens, width)) for tokens in COUNTED)
    unknown = sorted({entry.split(" in ")[0] for entry in large.unknown if not entry.startswith(KNOWN)})
    if unknown:
        raise InputError(f"what {', '.join(unknown)} costs is not known: compute it with other operators")
    powers = [
        _power(*(each(counts) for counts in (small, middle, large)))
        for each in (lambda c: c.macs + c.elementwise, lambda c: c.read_bytes + c.written_bytes)
    ]
    for what, power in zip(("work", "memory traffic"), powers, strict=True):
        if power > most:
            raise InputError(
                f"its {what} grows with tokens to the power of {power:.2f}, and {most:g} is the most: "
                f"{_cost(small, what):,} at {COUNTED[0]} tokens, {_cost(large, what):,} at {COUNTED[-1]}"
            )
    return Growth(powers[0], powers[1], large.macs / COUNTED[-1])


@contextmanager
def doubled(part: nn.Module) -> Iterator[None]:
    """``part`` in float64, and tensors that it makes itself too; afterwards as it was."""
    before = torch.get_default_dtype()
    dtypes = {name: tensor.dtype for name, tensor in part.state_dict().items()}
    torch.set_default_dtype(torch.float64)
    part.double()
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        part.to(next((d for d in dtypes.values() if d.is_floating_point), before))


def _power(small: int, middle: int, large: int) -> float:
    if middle <= small:
        return 0.0
    return math.log2(max(1, large - middle) / (middle - small))


def _cost(counts: Counts, what: str) -> int:
    return counts.macs + counts.elementwise if what == "work" else counts.read_bytes + counts.written_bytes


def _inputs(rows: int, tokens: int, width: int) -> Tensor:
    return torch.randn(rows, tokens, width, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64)


def _run(part: Callable[[Tensor], object], x: Tensor) -> Tensor:
    """The same numbers are drawn in each run, so that dropout is no difference."""
    torch.manual_seed(0)
    try:
        with torch.set_grad_enabled(x.requires_grad):
            y = part(x)
    except Exception as error:  # the part's own code raises what it likes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"it fails on {list(x.shape)}: {reason}") from error
    if not isinstance(y, Tensor) or y.shape != x.shape or not y.is_floating_point():
        what = f"{list(y.shape)} of {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"it makes {what} of {list(x.shape)}: forward gives what it takes, [batch, tokens, width]")
    return y


def _shape(part: nn.Module, x: Tensor, *, finite: bool) -> None:
    y = _run(part, x.clone())
    if finite and not torch.isfinite(y).all():
        raise InputError(f"it makes numbers that are not finite of {list(x.shape)}")


def _scale(y: Tensor) -> float:
    return max(float(y.abs().amax()), 1e-3)


def _causal(part: nn.Module, x: Tensor) -> None:
    """Tokens after a cut are replaced by others: outputs before it stay; and no gradient goes from them to those."""
    tokens = x.shape[1]
    for cut in sorted({1, tokens // 2, tokens - 1} & set(range(1, tokens))):
        y = _run(part, x.clone())[:, :cut]
        other = x.clone()
        other[:, cut:] = 3 * _inputs(x.shape[0], tokens + 100, x.shape[2])[:, : tokens - cut]
        changed = (y - _run(part, other)[:, :cut]).abs().amax(dim=(0, 2))
        if float(changed.max()) > TOLERANCE * _scale(y):
            raise InputError(f"it looks ahead: of {tokens} tokens, number {int(changed.argmax())} sees one after it")
        leaf = x.clone().requires_grad_()
        seen = _run(part, leaf)[:, :cut]
        if not seen.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(seen.square().sum(), leaf, allow_unused=True)
        if gradient is not None and float(gradient[:, cut:].abs().max()) > TOLERANCE * max(1.0, _scale(gradient)):
            raise InputError(f"it looks ahead: a gradient goes from token {cut} or later of {tokens} to one before it")


def _alone(part: nn.Module, x: Tensor) -> None:
    """The first example is what it is by itself."""
    together = _run(part, x.clone())
    other = x.clone()
    other[1:] = 3 * _inputs(len(x) - 1, x.shape[1] + 100, x.shape[2])[:, : x.shape[1]]
    changed = (together[:1] - _run(part, other)[:1]).abs().max()
    if float(changed) > TOLERANCE * _scale(together):
        raise InputError("an example sees the others of its batch")
    if not part.training:  # dropout draws by the shape
        alone = (together[:1] - _run(part, x[:1].clone())).abs().max()
        if float(alone) > TOLERANCE * _scale(together):
            raise InputError("an example alone comes out otherwise than in a batch")


def _forgets(part: nn.Module, width: int) -> None:
    """What it is called with between two calls makes no difference to the second, nor does it change its input."""
    x = _inputs(ROWS, 9, width)
    given = x.clone()
    before = _run(part, given)
    if not torch.equal(given, x):
        raise InputError("it writes into its input")
    _run(part, 2 * _inputs(ROWS, 5, width))
    if float((before - _run(part, x.clone())).abs().max()) > TOLERANCE * _scale(before):
        raise InputError("it remembers what it was called with before")


def _move(part: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=MOVED)
