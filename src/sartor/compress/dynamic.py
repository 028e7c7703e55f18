"""Dynamic 8-bit quantisation of an exported file: matrix products of int8 weights with activations whose range is taken
as they come. For language models, whose activations' ranges no calibration set covers, and whose decoding is bound by
reading weights. :mod:`sartor.compress.quantize` is the static one, for networks that see images.

Source: ONNX Runtime's ``quantize_dynamic``; Zafrir et al. (arXiv 1910.06188) for transformers in 8 bits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from sartor.compress.isa import needs_reduced_range
from sartor.compress.quantize import quiet
from sartor.disk import write_atomic
from sartor.errors import InputError


def quantize_dynamic(file: Path, out: Path) -> None:
    """Write ``file`` with each matrix product's weights in int8 by output channel to ``out``. Raises InputError."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantized

    with quiet(), tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "int8.onnx"
        try:
            quantized(
                str(file),
                str(made),
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=needs_reduced_range(),
            )
            proto = onnx.load(str(made))
        except Exception as error:  # the quantiser's own
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{file} cannot be quantised: {said}") from error
    if not any(node.op_type in ("MatMulInteger", "ConvInteger") for node in proto.graph.node):
        raise InputError(f"{file} has no matrix product with weights that could be quantised")
    write_atomic(out, proto.SerializeToString())
