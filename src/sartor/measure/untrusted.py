"""What an ONNX file must be before any runtime opens it: whole, of bounded size, reading nothing outside its folder.

A file is data from anywhere: one that is damaged, or made to harm, must end in one line. What can be told without
running it is told here, from the file: its bytes, its nodes (subgraphs and local functions counted as often as they
are called), where its weights lie, the shape of every tensor. What cannot (loops, sizes that depend on values,
operators of other domains, more work than a second or so) makes :func:`check` ask for a trial: ``measure.trial`` runs
it first in a process with an end.

Rejected: a trial of every file, which costs half a second each and a search times hundreds; and trusting the shapes
that a file states, which are inferred anew instead.
"""

from __future__ import annotations

import functools
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import onnx

from sartor.errors import InputError
from sartor.machine import available_bytes

_FILE_BYTES = 2**31 - 1  # protobuf's own limit: a larger message cannot be parsed
_NODES = 100_000  # the largest networks that are exported have some 30,000
_RANK = 16
_KEPT = 1024  # elements: smaller tensors may be shapes, whose values decide other shapes
_SMALL = 2**26  # bytes: not worth asking what is free
_WORK = 10**12  # multiply-accumulates, counted generously: about a minute of one core
_DEFAULT_DOMAINS = ("", "ai.onnx")
_GRAPH = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checked:
    """What is known of a file that was let in. ``proto`` lacks the values of large weights. ``trial``: why it must be
    tried in a process of its own before it runs in this one; None where all was told from the file."""

    proto: onnx.ModelProto
    trial: str | None


def check(file: Path, batch: int = 1) -> Checked:
    """Look at ``file`` without running it, its open batch being ``batch``. Raises InputError where it is refused."""
    status = _status(file)
    return _checked(file, (status.st_mtime_ns, status.st_size, status.st_ino), batch)


def read(file: Path) -> onnx.ModelProto:
    """The graph of ``file``, refused where it is damaged or reaches out of its folder; large weights have no values."""
    return check(file).proto


def elsewhere(file: Path) -> bool:
    """Whether some of the weights of ``file`` lie in other files. Raises InputError where it is no ONNX file."""
    proto = _parsed(file, _status(file).st_size)
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(proto))


def called(node: onnx.NodeProto) -> str:
    """A node as people find it: its name, or what it makes."""
    return node.name or next(iter(node.output), "") or node.op_type


def _status(file: Path) -> os.stat_result:
    try:
        status = file.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{file} is missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{file} is missing: what is there is no file")
    return status


@functools.lru_cache(maxsize=64)
def _checked(file: Path, version: tuple[int, int, int], batch: int) -> Checked:
    proto = _parsed(file, version[1])
    nodes = _count(proto, file)
    if not nodes:
        raise InputError(f"{file} is no ONNX file (it holds no nodes)")
    stored = {tensor.name: _tensor(tensor, file) for tensor in _tensors(proto)}
    _room(sum(stored.values()), file, "its weights")
    _known_operators(proto, file)
    fed = _inputs(proto, file, batch)
    light = onnx.ModelProto()
    light.CopyFrom(proto)  # protobuf gives what was cleared back with the whole message only
    return Checked(light, _nested(light) or _sizes(light, file, fed))


def _parsed(file: Path, size: int) -> onnx.ModelProto:
    if size > _FILE_BYTES:
        raise InputError(
            f"{file} has {size / 1e9:.1f} GB, and an ONNX file can have 2: save its weights as external data beside it"
        )
    _room(2 * size, file, "reading it")
    try:
        return onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's own
        raise InputError(f"{file} is no ONNX file ({(str(error) or repr(error)).splitlines()[0][:200]})") from error


def _room(size: int, file: Path, what: str) -> None:
    if size > _SMALL and size > (free := available_bytes()):
        raise InputError(f"{file}: {what} takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free")


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type in _GRAPH or attribute.HasField("g") or attribute.graphs:
            yield from ([attribute.g] if attribute.HasField("g") else [])
            yield from attribute.graphs


def _every(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those inside of them. Protobuf bounds the depth: deeper messages are not parsed."""
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from _every(graph.node)


def _bodies(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph, and the graphs inside of nodes, local functions' included."""
    yield proto.graph
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in _every(nodes):
            yield from _graphs(node)


def _count(proto: onnx.ModelProto, file: Path) -> int:
    """Nodes once local functions are written out where they are called: twenty that call each other twice are a
    million. Raises InputError above the limit, and for functions that call themselves."""
    functions = {(f.domain, f.name): f for f in proto.functions}
    known: dict[tuple[str, str], int] = {}
    open_: set[tuple[str, str]] = set()

    def size(nodes: Sequence[onnx.NodeProto]) -> int:
        total = 0
        for node in _every(nodes):
            key = (node.domain, node.op_type)
            total += of(key) if key in functions else 1
            if total > _NODES:
                raise InputError(
                    f"{file} has more than {_NODES:,} nodes, functions written out: no network is so large"
                )
        return total

    def of(key: tuple[str, str]) -> int:
        if key in open_ or len(open_) > 100:
            raise InputError(f"{file}: its function {key[1]} calls itself, which ONNX does not allow")
        if key not in known:
            open_.add(key)
            known[key] = size(functions[key].node) + 1
            open_.discard(key)
        return known[key]

    return size(proto.graph.node)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor, wherever it is."""
    for graph in _bodies(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in _every(nodes):
            for attribute in node.attribute:
                yield from ([attribute.t] if attribute.HasField("t") else [])
                yield from attribute.tensors
                alone = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
                for sparse in (*alone, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def _tensor(tensor: onnx.TensorProto, file: Path) -> int:
    """The bytes of a stored tensor, where its shape, its type and its values agree; large values are dropped."""
    shape = tuple(tensor.dims)
    name = f"{file}: tensor {tensor.name or 'without a name'}"
    if len(shape) > _RANK or any(size < 0 for size in shape):
        raise InputError(f"{name} has the shape {_short(shape)}, which nothing can have: export it again")
    count, bits = math.prod(shape), _bits(tensor.data_type)
    if tensor.data_type == onnx.TensorProto.UNDEFINED and not count:
        return 0
    if bits is None and tensor.data_type != onnx.TensorProto.STRING:
        raise InputError(f"{name} is of type {tensor.data_type}, which ONNX does not know: export it again")
    size = -(-count * (bits or 0) // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        _outside(tensor, size, file)
    elif tensor.HasField("raw_data") and bits is not None and len(tensor.raw_data) != size:
        raise InputError(
            f"{name} is damaged: {_short(shape)} needs {size:,} bytes, and there are {len(tensor.raw_data):,}"
        )
    elif not tensor.HasField("raw_data") and bits is not None:
        listed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        # Numbers of 4 bits lie two, and complex ones one half, in an entry.
        if 2 * max(map(len, listed)) < count // 4:
            raise InputError(f"{name} is damaged: {_short(shape)} has {count:,} values, and fewer are there")
    if count > _KEPT:
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
    return size


def _bits(kind: int) -> int | None:
    name = onnx.TensorProto.DataType.Name(kind) if kind in onnx.TensorProto.DataType.values() else "UNDEFINED"
    if name.endswith(("INT4", "FLOAT4E2M1")):
        return 4
    if name.endswith("INT2"):
        return 2
    if name in ("UNDEFINED", "STRING"):
        return None
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _outside(tensor: onnx.TensorProto, size: int, file: Path) -> None:
    """External data: a plain file beside or below ``file``, by a relative path without links, and long enough."""
    entries: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    location, name = entries.get("location", ""), tensor.name or "a tensor"
    folder = file.resolve().parent
    parts = Path(location).parts
    if (
        not parts
        or "\0" in location
        or Path(location).is_absolute()
        or PureWindowsPath(location).is_absolute()
        or ".." in (*parts, *PureWindowsPath(location).parts)
    ):
        raise InputError(f"{file}: the weights of {name} lie at {location!r}, outside of its folder: refused")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise InputError(
                f"{file}: the weights of {name} lie behind the link {location!r}: put the file itself there"
            )
    if not path.is_file():
        raise InputError(
            f"{file}: the weights of {name} are in {location}, which is missing beside it: copy both files"
        )
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or (size and length != size) or offset + length > path.stat().st_size:
        raise InputError(f"{file}: {location} is too short for the weights of {name}, or not its file: copy it again")


def _known_operators(proto: onnx.ModelProto, file: Path) -> None:
    """Raises InputError for an operator of the standard domain that there is not, with its node."""
    opset = max((entry.version for entry in proto.opset_import if entry.domain in _DEFAULT_DOMAINS), default=0)
    local = {function.name for function in proto.functions if function.domain in _DEFAULT_DOMAINS}
    for body in _bodies(proto):
        for node in body.node:
            if node.domain in _DEFAULT_DOMAINS and node.op_type not in local and not _schema(node.op_type):
                raise InputError(
                    f"{file}: node {called(node)} is a {node.op_type or 'nameless operator'}, which ONNX {opset} "
                    "does not have: replace that layer, or export it as operators that there are"
                )


@functools.lru_cache(maxsize=512)
def _schema(kind: str) -> bool:
    return bool(onnx.defs.has(kind))


def _inputs(proto: onnx.ModelProto, file: Path, batch: int) -> int:
    """The bytes that are fed; sets open batches to ``batch``. Raises InputError for sizes nothing can have."""
    stored, total = {tensor.name for tensor in proto.graph.initializer}, 0
    for value in proto.graph.input:
        if value.name in stored or not value.type.HasField("tensor_type"):
            continue
        dims = value.type.tensor_type.shape.dim
        sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims]
        if any(isinstance(size, int) and size <= 0 for size in sizes) or len(sizes) > _RANK:
            raise InputError(f"{file}: input {value.name} is {_short(sizes)}: sizes must be positive, export it again")
        known = [size for size in sizes if isinstance(size, int)]
        bits = _bits(value.type.tensor_type.elem_type) or 64
        total += math.prod(known) * bits // 8 * (batch if sizes and not isinstance(sizes[0], int) else 1)
    _room(4 * total, file, f"a batch of {batch}")
    return total


def _nested(proto: onnx.ModelProto) -> str | None:
    for node in proto.graph.node:
        if any(True for _ in _graphs(node)):
            return f"node {called(node)} ({node.op_type}) holds a graph that may be repeated"
    return "it has functions of its own" if proto.functions else None


def _sizes(proto: onnx.ModelProto, file: Path, fed: int) -> str | None:
    """Why the sizes of what ``proto`` computes are not known, or so large that only a trial tells whether they fit."""
    try:
        shapes = _inferred(proto)
    except Exception as error:  # onnx's and protobuf's own
        return f"its shapes cannot be inferred ({str(error).strip().splitlines()[0][:100] if str(error) else error!r})"
    total, work = fed, 0
    for node in proto.graph.node:
        for name in filter(None, node.output):
            known = shapes.get(name)
            if known is None:
                return f"the size of what node {called(node)} ({node.op_type}) makes is known only when it runs"
            shape, kind = known
            size = math.prod(shape) * (_bits(kind) or 64) // 8
            _room(size, file, f"what node {called(node)} ({node.op_type}) makes, {_short(shape)},")
            total += size
        work += _work(node, shapes)
    if work > _WORK:
        return f"it may take {work:.0e} multiply-accumulates"
    return f"its tensors take {total / 1e9:.1f} GB" if 4 * total > available_bytes() else None


def _work(node: onnx.NodeProto, shapes: Mapping[str, tuple[Shape, int]]) -> int:
    """Multiply-accumulates of a node, guessed generously: each value made reads a filter, or the longest side."""
    made = sum(math.prod(shapes[name][0]) for name in node.output if name in shapes)
    read = [shapes[name][0] for name in node.input if name in shapes]
    kernel = math.prod(next((a.ints for a in node.attribute if a.name == "kernel_shape"), ()))
    if "Conv" in node.op_type and len(read) > 1:
        filters = max((math.prod(shape[1:]) for shape in read[1:] if shape), default=1)
        return filters * (math.prod(read[0]) if "Transpose" in node.op_type else made)
    return made * max([1, kernel, *(side for shape in read for side in shape)])


def _inferred(proto: onnx.ModelProto) -> dict[str, tuple[Shape, int]]:
    """Shape and type of each tensor whose sizes follow from the inputs', batch 1. What the file states is not used."""
    light = onnx.ModelProto()
    light.CopyFrom(proto)  # its large weights have no values any more
    light.graph.ClearField("value_info")
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in light.graph.input:
        for dim in value.type.tensor_type.shape.dim[:1]:
            if not dim.HasField("dim_value"):
                dim.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    found = {tensor.name: (tuple(tensor.dims), tensor.data_type) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = (tuple(d.dim_value for d in dims), value.type.tensor_type.elem_type)
    return {name: (shape, kind) for name, (shape, kind) in found.items() if min(shape, default=0) >= 0}


def _short(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]"
