"""Files that are damaged, absurd or made to harm end in one line, and nothing hangs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from contracts.target import SHAPE, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure import trial
from sartor.measure.model import measure_model
from sartor.measure.targets.named import open_target
from sartor.measure.untrusted import check

OPSET = [helper.make_opsetid("", 18)]


def saved(
    file: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None, **more: object
) -> Path:
    """A file of these nodes from ``x`` [1, 4] to ``y``."""
    shape = more.pop("shape", [1, 4])
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    value = functools.partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(nodes, "g", [value("x", shape=shape)], [value("y", shape=None)], stored)
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=8, **more), file)  # type: ignore[arg-type]
    return file


def refused(file: Path, message: str) -> None:
    """By the check, by every target of this process and by ``sartor measure``, in one line."""
    with pytest.raises(InputError, match=message) as caught:
        check(file)
    assert "\n" not in str(caught.value)
    for run in (open_target("onnxruntime").latency_ms, lambda f: measure_model(str(f))):
        with pytest.raises(InputError, match=message):
            run(file)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    return tmp_path / "m.onnx"


def test_what_is_ordinary_needs_no_trial(real: Path) -> None:
    assert check(real).trial is None
    assert check(real, 64).trial is None


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.onnx", "is missing")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="is missing: what is there is no file"):
        check(tmp_path / "folder.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(tmp_path / "empty.onnx", "is no ONNX file")


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(5 * 10**9)  # sparse: it takes no room
    refused(tmp_path / "huge.onnx", r"has 5\.0 GB, and an ONNX file can have 2")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../weights.bin", "outside of its folder"),
        ("sub/../../weights.bin", "outside of its folder"),
        ("/etc/passwd", "outside of its folder"),
        ("C:\\weights.bin", "outside of its folder"),
        ("", "outside of its folder"),
        ("link.bin", "behind the link"),
        ("linked/weights.bin", "behind the link"),
        ("absent.bin", "absent.bin, which is missing"),
        ("short.bin", "too short"),
        ("fine.bin", ""),
    ],
)
def test_external_weights_stay_in_the_folder(location: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weight = np.ones((4, 4), np.float32)
    for place in (tmp_path / "weights.bin", folder / "fine.bin"):
        place.write_bytes(weight.tobytes())
    (folder / "short.bin").write_bytes(weight.tobytes()[:-1])
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "linked").symlink_to(tmp_path)
    file = saved(folder / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight})
    proto = onnx.load(file)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    file.write_bytes(proto.SerializeToString())
    if message:
        refused(file, message)
    else:
        (said,) = open_target("onnxruntime").run(file, [np.ones((1, 4), np.float32)])
        np.testing.assert_array_equal(said, np.full((1, 4), 4))


def _negative(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = -8


def _enormous(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = 2**62


def _zero_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0


def _huge_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40


def _cut(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def _unknown(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type = "Frobnicate"


def _no_nodes(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


def _type(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_negative, r"has the shape \[-8, .*\], which nothing can have"),
        (_enormous, "damaged|GB of memory are free"),
        (_zero_input, "sizes must be positive"),
        (_huge_input, "GB of memory are free"),
        (_cut, "is damaged: .* needs"),
        (_unknown, "node node_Relu_1 is a Frobnicate, which ONNX 20 does not have"),
        (_no_nodes, "it holds no nodes"),
        (_type, "is of type 99"),
    ],
)
def test_harm_is_named(harm: Callable[[onnx.ModelProto], None], message: str, real: Path) -> None:
    proto = onnx.load(real)
    harm(proto)
    real.write_bytes(proto.SerializeToString())
    refused(real, message)


def test_functions_that_call_each_other_are_counted_as_written_out(tmp_path: Path) -> None:
    def function(name: str, inner: str) -> onnx.FunctionProto:
        nodes = [helper.make_node(inner, ["a"], ["b"], domain="f"), helper.make_node(inner, ["b"], ["c"], domain="f")]
        return helper.make_function("f", name, ["a"], ["c"], nodes, OPSET)

    functions = [function(f"f{i}", f"f{i + 1}") for i in range(40)]
    call = [helper.make_node("f0", ["x"], ["y"], domain="f")]
    refused(saved(tmp_path / "m.onnx", call, functions=functions), "more than 100,000 nodes")
    refused(saved(tmp_path / "n.onnx", call, functions=[function("f0", "f0")]), "calls itself")


def loop(trips: int) -> onnx.NodeProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["a", "a"], ["b"]),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("a", TensorProto.FLOAT, [1, 4])],
        [value("go_on", TensorProto.BOOL, []), value("b", TensorProto.FLOAT, [1, 4])],
    )
    return helper.make_node("Loop", ["trips", "yes", "x"], ["y"], "around", body=body)


def test_a_loop_that_ends_runs_and_one_that_does_not_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looping(trips: int) -> Path:
        weights = {"trips": np.array(trips), "yes": np.array(True)}
        return saved(tmp_path / f"{trips}.onnx", [loop(trips)], weights)

    few = looping(3)
    assert "node around (Loop)" in str(check(few).trial)
    (said,) = open_target("onnxruntime").run(few, [np.ones((1, 4), np.float32)])
    np.testing.assert_array_equal(said, np.full((1, 4), 8))
    monkeypatch.setattr(trial, "LIMIT_S", 6.0)
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"trial run: node around \(Loop\)"):
        open_target("onnxruntime").latency_ms(looping(2**60))
    assert time.monotonic() - begin < 20


def test_sizes_that_only_values_tell_are_tried(tmp_path: Path) -> None:
    """A matrix of 4 TB that nothing in the file states: the trial ends, and says so."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["small"], to=TensorProto.INT64),
        helper.make_node("Add", ["small", "many"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["y"], "all_of_it"),
    ]
    file = saved(tmp_path / "m.onnx", nodes, {"many": np.array([10**6, 10**6])})
    with pytest.raises(InputError, match=r"m\.onnx"):
        open_target("onnxruntime").latency_ms(file)


def test_a_size_that_follows_from_the_file_is_refused_at_once(tmp_path: Path) -> None:
    node = helper.make_node("ConstantOfShape", ["size"], ["y"], "all_of_it")
    refused(saved(tmp_path / "m.onnx", [node], {"size": np.array([10**6, 10**6])}), "node all_of_it .* GB")


def test_an_operator_of_a_domain_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.onnx", [helper.make_node("Fancy", ["x"], ["y"], "the_layer", domain="com.mine")])
    with pytest.raises(InputError, match=r"ONNX Runtime has no operator com\.mine\.Fancy, which node the_layer"):
        open_target("onnxruntime").latency_ms(file)


@functools.lru_cache(maxsize=1)
def whole() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(network(4), SHAPE, Path(folder) / "m.onnx", draft=True)
        return (Path(folder) / "m.onnx").read_bytes()


@given(data=st.data())
@settings(max_examples=150)
def test_any_damage_is_told_or_harmless(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes of a real file changed, cut out or put in: the check answers, with an InputError of one line or a graph."""
    content = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "put", "end"]))
        if kind == "flip":
            content[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == "put":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            del content[max(at, 1) :]
    file = tmp_path_factory.mktemp("damaged") / "m.onnx"
    file.write_bytes(bytes(content))
    begin = time.monotonic()
    try:
        checked = check(file)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert checked.proto.graph.node
    assert time.monotonic() - begin < 10
