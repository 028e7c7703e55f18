"""Language models: trained on text, and what they make of text that they have not seen."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import Diverged, InputError


def train_language(
    model: nn.Module, text: Tensor, *, context: int, steps: int, rows: int = 16, lr: float = 3e-3
) -> list[float]:
    """Train ``model``, tokens [n, t] to logits [n, t, words], for ``steps`` batches of ``rows`` random windows of
    ``context`` tokens of ``text`` [n]; one descent of the learning rate. Returns the loss of each batch, in nats.

    Windows come from torch's global generator. Raises Diverged as soon as a loss is not finite.
    """
    if min(steps, rows, context) < 1 or len(text) <= context + 1:
        raise InputError(f"{steps} steps of {rows} windows of {context} cannot be had of {len(text)} tokens")
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(2, steps))
    losses = []
    for step in range(steps):
        starts = torch.randint(len(text) - context - 1, (rows,))
        batch = torch.stack([text[start : start + context + 1] for start in starts.tolist()])
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        if not torch.isfinite(loss):
            raise Diverged(f"the loss is {float(loss.detach())} at step {step} of {steps}")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


class Understood(NamedTuple):
    """Of the next token: the cross-entropy in nats, and the share where the likeliest was right."""

    loss: float
    accuracy: float


@torch.no_grad()
def understood(model: nn.Module, windows: Tensor, *, rows: int = 16) -> Understood:
    """What ``model`` says of each next token in ``windows`` [n, t + 1], in eval mode, ``rows`` at a time."""
    model.eval()
    loss, right = 0.0, 0
    for batch in windows.split(rows):
        logits = model(batch[:, :-1]).flatten(0, 1)
        target = batch[:, 1:].flatten()
        loss += float(F.cross_entropy(logits, target, reduction="sum"))
        right += int((logits.argmax(1) == target).sum())
    count = windows.shape[0] * (windows.shape[1] - 1)
    return Understood(loss / count, right / count)
