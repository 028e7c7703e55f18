"""Targets by the names that ``--target`` takes."""

from __future__ import annotations

from importlib import import_module

from sartor.errors import InputError
from sartor.measure.targets.target import Target

TARGETS = {
    "onnxruntime": "sartor.measure.targets.onnxruntime:OnnxRuntime",
    "http": "sartor.measure.targets.remote:Http",
    "https": "sartor.measure.targets.remote:Https",
    "mcu": "sartor.measure.targets.mcu.target:Mcu",
    "systolic": "sartor.measure.targets.systolic:Systolic",
    "openvino": "sartor.measure.targets.openvino:OpenVino",
    "torch": "sartor.measure.targets.torch:Torch",
    "executorch": "sartor.measure.targets.executorch:ExecuTorch",
    "litert": "sartor.measure.targets.litert:LiteRt",
    "cuda": "sartor.measure.targets.gpu:Cuda",
    "tensorrt": "sartor.measure.targets.gpu:TensorRt",
}
"""Name → the class whose ``open(settings, threads)`` makes it; imported when it is asked for: some need a package of
their own."""


def open_target(spec: str, threads: int = 1) -> Target:
    """The target that ``spec`` names: ``NAME``, or ``NAME:SETTINGS``, such as ``onnxruntime:optimisation=basic``.

    Raises InputError naming the known targets, the settings that one has, or how to install what it needs.
    """
    name, _, settings = spec.partition(":")
    if name not in TARGETS:
        raise InputError(f"no target is called {name!r}: choose one of {', '.join(TARGETS)}")
    module, _, made = TARGETS[name].partition(":")
    target: Target = getattr(import_module(module), made).open(settings, threads)
    return target
