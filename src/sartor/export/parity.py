"""Does the exported file compute what the module computes? Checked on random images, not assumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import evaluating


def parity(model: nn.Module, file: Path, shape: tuple[int, int, int], *, n: int = 8, seed: int = 0) -> float:
    """The file's largest absolute error over ``n`` random images, relative to the largest absolute eager output.

    ``shape`` is (C, H, W). fp32 exports are held to 1e-5; a NaN anywhere gives infinity. Raises InputError when the
    file does not run on these images or its output has another shape.
    """
    images = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    like = next(model.parameters(), torch.zeros(()))
    with evaluating(model), torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        eager = model(images.to(like.device)).float().cpu().numpy()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        exported = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    except Exception as fault:  # ORT raises its own untyped exceptions
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
        raise InputError(f"{file} does not run on images of {tuple(shape)} ({reason})") from fault
    if exported.shape != eager.shape:
        raise InputError(f"{file} gives {list(exported.shape)} where the model gives {list(eager.shape)}")
    error = np.abs(exported - eager).max() / max(float(np.abs(eager).max()), np.finfo(np.float32).tiny)
    return float(error) if np.isfinite(error) else float("inf")
