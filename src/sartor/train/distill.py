"""Distillation losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_targets(student: Tensor, teacher: Tensor, *, tau: float = 1.0) -> Tensor:
    """KL(teacher‖student) of logits [b, k] softened by ``tau``, in nats, times tau² to keep the gradient's scale.

    Hinton et al., arXiv:1503.02531 §2. In-place distillation (BigNAS, arXiv:2003.11142 §3.2) uses tau = 1.
    """
    log_p, log_q = (F.log_softmax(z.float() / tau, dim=-1) for z in (teacher, student))
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * tau**2
