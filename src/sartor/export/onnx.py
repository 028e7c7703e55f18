"""A module to one ONNX file with a dynamic batch. ``images`` float32 [n, C, H, W] in, ``logits`` [n, k] out."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import nn
from torch.utils import _pytree as pytree

from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.export.attention import translations
from sartor.graph.capture import Inputs, arguments, capture, evaluating

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OPSET = 20
"""18 is the least that the new exporter speaks; 20 has GELU as one operator and is read by ONNX Runtime >= 1.17."""

INPUT, OUTPUT = "images", "logits"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No deprecation warnings, prints or log lines from the exporters. Errors still raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _script_export(model: nn.Module, images: torch.Tensor) -> onnx.ModelProto:
    batch = {INPUT: {0: "n"}, OUTPUT: {0: "n"}}
    torch._C._jit_set_onnx_log_output_stream("stderr")  # not among what a program reads, where it does not know a model
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "draft.onnx"
        torch.onnx.export(
            model,
            (images,),
            str(file),
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=batch,
            opset_version=OPSET,
        )
        proto = onnx.load(str(file))
    _spell_out(proto, [f"{name}.weight" for name, part in model.named_modules() if isinstance(part, nn.Conv2d)])
    return proto


def _spell_out(proto: onnx.ModelProto, weights: Sequence[str]) -> None:
    """Names and weights as the newer exporter has them, so that a draft is as large as the file it stands for.

    The older one says each module's path in every node's name, numbers the folded weights, and writes equal tensors
    (fresh biases) once, read through Identity nodes, which a quantiser then quantises one by one. ``weights``: the
    names of the convolutions' in the model.
    """
    graph = proto.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    shared = [node for node in graph.node if node.op_type == "Identity" and node.input[0] in held]
    for node in shared:
        copied = graph.initializer.add()
        copied.CopyFrom(held[node.input[0]])
        copied.name = node.output[0]
    for node in shared:
        graph.node.remove(node)
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for node, weight in zip(convolutions, weights, strict=False):  # in another order perhaps, and just as long
        if node.input[1] not in weights and weight not in held:
            names |= dict(zip(node.input[1:], (weight, f"{weight}_bias"), strict=False))
    names |= {tensor.name: tensor.name for tensor in graph.initializer if tensor.name not in names}
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for index, node in enumerate(graph.node):
        node.name = f"node_{node.op_type}_{index}"
        for row in (node.input, node.output):
            row[:] = [names.setdefault(name, f"val_{len(names)}") for name in row]


def _dynamo_export(model: nn.Module, images: torch.Tensor) -> onnx.ModelProto:
    return to_onnx(
        model,
        (images,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )


def to_onnx(model: nn.Module | ExportedProgram, args: tuple[Any, ...], **options: Any) -> onnx.ModelProto:
    """``torch.onnx.export`` of any module with any arguments, or of a captured one; and of operators that it does not
    know but we do."""

    def export(**more: Any) -> onnx.ModelProto:
        program = torch.onnx.export(model, args, dynamo=True, opset_version=OPSET, verbose=False, **options, **more)
        assert program is not None
        return program.model_proto

    try:
        return export()
    except torch.onnx.OnnxExporterError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return export(custom_translation_table=translations())


def _strip(proto: onnx.ModelProto) -> None:
    """Drop stack traces and class names: they name the author's folders and made a 268 kB file 10 kB larger."""
    graph = proto.graph
    proto.doc_string = graph.doc_string = ""
    for holder in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    # The exporter's per-node shapes are inferred again by whoever needs them.
    graph.ClearField("value_info")


def _pool_means(proto: onnx.ModelProto) -> None:
    """Write means over height and width as GlobalAveragePool, whichever way the module spells them.

    The new exporter turns average pooling into ReduceMean, which ONNX Runtime can neither quantise (the largest last
    feature map is turned back into floats) nor run in its blocked layout. GlobalAveragePool it can, both.
    """
    graph = onnx.shape_inference.infer_shapes(proto).graph
    rank = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input)}
    axes = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT64}
    constants = [node for node in graph.node if node.op_type == "Constant"]
    axes |= {n.output[0]: onnx.numpy_helper.to_array(a.t) for n in constants for a in n.attribute if a.name == "value"}
    nodes = []
    for node in proto.graph.node:
        over = axes.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        if over is None or rank.get(node.input[0]) != 4 or sorted(int(a) % 4 for a in over.reshape(-1)) != [2, 3]:
            nodes.append(node)
            continue
        keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        pooled = node.output[0] if keep else f"{node.output[0]}/pooled"
        nodes.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name))
        if not keep:
            nodes.append(onnx.helper.make_node("Flatten", [pooled], [node.output[0]], f"{node.name}/flat", axis=1))
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    del proto.graph.node[:]
    proto.graph.node.extend(node for node in nodes if node.op_type != "Constant" or node.output[0] in read)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def _check(proto: onnx.ModelProto) -> None:
    if len(proto.graph.input) != 1 or len(proto.graph.output) != 1:
        raise InputError(
            f"the model has {len(proto.graph.input)} inputs and {len(proto.graph.output)} outputs: "
            "one image tensor in and one tensor of logits out are needed"
        )
    for value in (proto.graph.input[0], proto.graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_value"):
            raise InputError(
                f"the model fixes its batch size to {dims[0].dim_value}: replace numbers of images in reshapes by -1"
            )


def onnx_of(model: nn.Module, shape: tuple[int, int, int], *, draft: bool = False) -> onnx.ModelProto:
    """``model`` in eval mode for images of ``shape`` (C, H, W), as :func:`export_onnx` writes it."""
    if len(shape) != 3 or any(int(size) < 1 for size in shape):
        raise InputError(f"the image shape must be three positive numbers (channels, height, width), not {shape!r}")
    if any(tensor.device.type != "cpu" for tensor in (*model.parameters(), *model.buffers())):
        model = copy.deepcopy(model).cpu()
    images = torch.zeros(2, *shape)  # 2: torch.export takes a batch of 1 for a constant
    with evaluating(model), torch.no_grad(), torch.autocast("cpu", enabled=False), _quiet():
        try:
            proto = _script_export(model, images) if draft else _dynamo_export(model, images)
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"{type(model).__name__} cannot be exported to ONNX for images of {tuple(shape)}: "
                f"{reason[0] if reason else type(error).__name__}"
            ) from error
    _pool_means(proto)
    _strip(proto)
    _check(proto)
    proto.producer_name, proto.producer_version = "sartor", ""
    return proto


def export_onnx(
    model: nn.Module,
    shape: tuple[int, int, int],
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    draft: bool = False,
) -> None:
    """Export ``model`` in eval mode for images of ``shape`` (C, H, W) to one ONNX file at ``path``, atomically.

    ``metadata`` becomes the file's metadata_props. ``draft`` takes PyTorch's older exporter, about ten times faster:
    the same operators for convolutional networks, meant for files that are timed and thrown away. The model's modes
    and device are left as they were. Raises InputError when the model cannot be exported.
    """
    write_onnx(onnx_of(model, shape, draft=draft), path, metadata)


def export_draft(
    model: nn.Module, shape: tuple[int, int, int], path: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """:func:`export_onnx` as a draft where the older exporter knows the model's operators, else as it is shipped.

    Raises InputError when neither knows them.
    """
    try:
        export_onnx(model, shape, path, metadata=metadata, draft=True)
    except InputError:
        export_onnx(model, shape, path, metadata=metadata)


def onnx_with(model: nn.Module, inputs: Inputs) -> onnx.ModelProto:
    """``model`` in eval mode for ``inputs`` as they are: any number and type of tensors, every size fixed.

    What is no tensor (None, a flag) is a constant of the file. Its inputs and outputs are called as the exporter calls
    them; those it does not use stay. Raises InputError where there is no tensor, and where it cannot be exported.
    """
    inputs = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.detach().cpu(), inputs)
    if not any(isinstance(value, torch.Tensor) for value in pytree.tree_leaves(arguments(inputs))):
        raise InputError("the inputs hold no tensor: give a tensor, a tuple or a dict of tensors")
    if any(tensor.device.type != "cpu" for tensor in (*model.parameters(), *model.buffers())):
        model = copy.deepcopy(model).cpu()
    with torch.no_grad(), torch.autocast("cpu", enabled=False), _quiet():
        program = capture(model, inputs).program  # by itself, because it names the line that stops it
        try:
            proto = to_onnx(program, ())
        except Exception as error:
            said = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
            reason = said[0] if said else type(error).__name__
            raise InputError(f"{type(model).__name__} cannot be exported to ONNX: {reason}") from error
    _pool_means(proto)
    _strip(proto)
    proto.producer_name, proto.producer_version = "sartor", ""
    return proto


def write_onnx(proto: onnx.ModelProto, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``proto`` with ``metadata`` as its metadata_props, atomically. Raises InputError over 2 GB."""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(metadata or {}))
    try:
        content = proto.SerializeToString()
    except ValueError as error:
        raise InputError("the network is over 2 GB, the most one ONNX file holds") from error
    write_atomic(path, content)
