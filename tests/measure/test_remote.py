"""Boards that run ``sartor agent``: the target contract on a real agent in a process of its own, agents that are killed
or stopped, that are reached through a network of their own, that demand a token, that lie."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from contracts.agents import TOKEN, Started, pretending, reply, started
from contracts.target import SHAPE, TargetSuite, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.agent.cache import Cache
from sartor.measure.agent.serve import serve
from sartor.measure.agent.wire import Malformed, read_arrays, read_latencies, write_arrays
from sartor.measure.caches import sha256_of
from sartor.measure.targets.named import open_target
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.targets.remote import Remote

QUICK: dict[str, Any] = {"runs": 5, "min_time_s": 0.01, "budget_s": 0.2}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARTOR_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(tmp_path_factory.mktemp("agent"), "--max-size", "2MB", "--max-time", "20s") as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "m.onnx"
    export_onnx(network(8), SHAPE, file, draft=True)
    return file


@pytest.mark.heavy
class TestRemote(TargetSuite):
    @pytest.fixture(autouse=True)
    def _target(self, agent: Started) -> None:
        type(self).target = open_target(agent.address)


def test_it_says_where_it_ran(agent: Started, model: Path) -> None:
    target = open_target(agent.address)
    assert target.name == agent.address
    assert open_target(target.name).name == target.name
    assert target.latency_ms(model, **QUICK).device.endswith(f"({agent.address})")


def test_outputs_are_those_of_here_to_the_bit(agent: Started, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the batches take many requests."""
    monkeypatch.setattr("sartor.measure.targets.remote.BATCH_BYTES", 30_000)
    batches = [np.random.default_rng(n).standard_normal((n, *SHAPE), np.float32) for n in (1, 3, 2, 1)]
    here, there = OnnxRuntime(1).run(model, batches), open_target(agent.address).run(model, iter(batches))
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.heavy
def test_files_are_kept_by_content_and_a_damaged_one_is_sent_again(tmp_path: Path, model: Path) -> None:
    with started(tmp_path) as running:
        target = open_target(running.address)
        target.latency_ms(model, **QUICK)
        (kept,) = (tmp_path / "sartor" / "agent").iterdir()
        assert kept.name == f"{sha256_of(model)}.onnx"
        kept.write_bytes(kept.read_bytes()[:-1] + b"?")
        target.latency_ms(model, **QUICK)
        assert sha256_of(kept) == kept.stem


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100)
    for content in (b"a" * 60, b"b" * 60, b"c" * 30):
        cache.put(hashlib.sha256(content).hexdigest(), BytesIO(content), len(content))
        time.sleep(0.01)
    assert [
        path.stat().st_size for path in sorted((tmp_path / "cache").iterdir(), key=lambda p: p.stat().st_mtime)
    ] == [
        60,
        30,
    ]
    assert not cache.holds(hashlib.sha256(b"a" * 60).hexdigest())
    with pytest.raises(Malformed, match="not what its hash says"):
        cache.put("0" * 64, BytesIO(b"x"), 1)
    with pytest.raises(Malformed, match="SHA-256"):
        cache.path("../../etc/passwd")


# --- who may ask, and for what ----------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_and_told(agent: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARTOR_TOKEN", "another-token-than-its-own")
    with pytest.raises(InputError, match="refuses the token"):
        open_target(agent.address)
    monkeypatch.delenv("SARTOR_TOKEN")
    with pytest.raises(InputError, match=r"set \$SARTOR_TOKEN"):
        open_target(agent.address)


@pytest.mark.heavy
def test_a_token_is_made_where_none_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, token=None) as running:
        (made,) = [line.removeprefix("token: ") for line in running.said if line.startswith("token: ")]
        (tmp_path / "token").write_text(made + "\n")
        monkeypatch.delenv("SARTOR_TOKEN")
        target = open_target(f"{running.address},token-file={tmp_path / 'token'}")
        assert made not in target.name
        assert isinstance(target, Remote)
        assert target.device["cpu"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("http://me:secret@board:1", "holds no token or password"),
        ("http://board:1?token=x", "holds no token or password"),
        ("http:board", "no address"),
        ("http://board:99999", "no address"),
        ("http://board/path", "no address"),
        ("http://board:1,colour=red", "no setting 'colour=red'"),
        ("http://board:1,ca=x.pem", "no setting 'ca=x.pem'"),
        ("http://127.0.0.1:1", "does not answer"),
        ("http://127.0.0.1:1,token-file=nowhere", "token file nowhere cannot be read"),
    ],
)
def test_addresses_that_are_none(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        open_target(spec)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("length", ["5000000000", "-1", "x", "99999999999999999999999999"])
def test_bodies_are_not_read_before_their_length_and_token(agent: Started, length: str) -> None:
    with socket.create_connection(("127.0.0.1", int(agent.address.rpartition(":")[2]))) as connection:
        connection.settimeout(5)
        head = f"PUT /v1/files/{'0' * 64} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).split()[1] in (b"413", b"411")


def test_a_file_that_is_too_large_is_told_before_it_is_sent(agent: Started, tmp_path: Path) -> None:
    (tmp_path / "large.onnx").write_bytes(b"0" * 2_000_001)
    with pytest.raises(InputError, match=r"large\.onnx has 2000001 bytes, .* larger --max-size"):
        open_target(agent.address).latency_ms(tmp_path / "large.onnx")


def test_a_file_that_reads_others_is_refused(agent: Started, tmp_path: Path) -> None:
    """Weights kept in other files would be read from the agent's disk, whatever path the file names."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1, 4])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../../../etc/passwd")
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [out], [weight])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "thief.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=r"thief\.onnx keeps weights in other files"):
        open_target(agent.address).latency_ms(tmp_path / "thief.onnx")


def _counting(steps: int) -> bytes:
    """A file whose loop goes round ``steps`` times."""
    make, value, floats = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    body = onnx.helper.make_graph(
        [make("Identity", ["go"], ["on"]), make("Sin", ["a"], ["b"])],
        "body",
        [value("i", onnx.TensorProto.INT64, []), value("go", onnx.TensorProto.BOOL, []), value("a", floats, None)],
        [value("on", onnx.TensorProto.BOOL, []), value("b", floats, None)],
    )
    graph = onnx.helper.make_graph(
        [make("Loop", ["n", "yes", "x"], ["y"], body=body)],
        "slow",
        [value("x", floats, [1, 4])],
        [value("y", floats, [1, 4])],
        [
            onnx.helper.make_tensor("n", onnx.TensorProto.INT64, [], [steps]),
            onnx.helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]),
        ],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.heavy
def test_a_file_that_never_ends_is_killed_and_the_next_one_runs(tmp_path: Path, model: Path) -> None:
    (tmp_path / "slow.onnx").write_bytes(_counting(10**12))
    with started(tmp_path, "--max-time", "5s") as running:
        target = open_target(running.address)
        begin = time.monotonic()
        with pytest.raises(InputError, match="takes longer than 5 s"):
            target.latency_ms(tmp_path / "slow.onnx")
        assert time.monotonic() - begin < 15
        assert target.latency_ms(model, **QUICK).median_ms > 0
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
        assert not children.exists() or children.read_text() == ""


@pytest.mark.heavy
def test_a_file_larger_than_memory_ends_its_process_not_the_agent(agent: Started, tmp_path: Path, model: Path) -> None:
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Expand", ["x", "shape"], ["y"])],
        "huge",
        [value("x", floats, [1, 1])],
        [value("y", floats, None)],
        [onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [2**20, 2**20])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    (tmp_path / "huge.onnx").write_bytes(proto.SerializeToString())
    target = open_target(agent.address)
    with pytest.raises(InputError, match=r"huge\.onnx|memory|ended the process"):
        target.latency_ms(tmp_path / "huge.onnx")
    assert target.latency_ms(model, **QUICK).median_ms > 0


@pytest.mark.heavy
def test_jobs_take_turns(agent: Started, model: Path) -> None:
    found: list[float] = []
    target = open_target(agent.address)
    askers = [
        threading.Thread(target=lambda: found.append(target.latency_ms(model, **QUICK).median_ms)) for _ in range(3)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    assert len(found) == 3


# --- agents that die --------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_an_agent_that_dies_in_the_middle_takes_its_job_with_it(tmp_path: Path) -> None:
    (tmp_path / "slow.onnx").write_bytes(_counting(10**12))
    with started(tmp_path) as running:
        target = open_target(running.address)
        seen: list[list[int]] = []

        def kill() -> None:
            deadline = time.monotonic() + 10
            while not _jobs_of(tmp_path) and time.monotonic() < deadline:
                time.sleep(0.05)
            seen.append(_jobs_of(tmp_path))
            os.kill(running.process.pid, signal.SIGKILL)

        threading.Thread(target=kill).start()
        with pytest.raises(InputError, match="broke off in the middle of a job"):
            target.latency_ms(tmp_path / "slow.onnx")
        with pytest.raises(InputError, match="does not answer"):
            open_target(running.address)
        deadline = time.monotonic() + 5
        while _jobs_of(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert seen[0]
        assert not _jobs_of(tmp_path)


def _jobs_of(folder: Path) -> list[int]:
    """The processes that do jobs of the agent whose cache is ``folder``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "sartor.measure.agent.job" in process.cmdline() and process.environ()["XDG_CACHE_HOME"] == str(folder):
                found.append(process.pid)
    return found


@pytest.mark.heavy
def test_an_agent_that_stops_answering_is_given_up(tmp_path: Path, model: Path) -> None:
    with started(tmp_path) as running:
        target = Remote(running.address, 1, budget_s=3.0)
        assert target.most_threads >= 1
        os.kill(running.process.pid, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(InputError, match="no answer within 3 s"):
            target.latency_ms(model)
        assert time.monotonic() - begin < 10


# --- a network of its own ---------------------------------------------------------------------------------------------


@pytest.fixture
def space() -> Iterator[str]:
    """A network namespace with one cable to this one."""
    name = f"sartor{os.getpid() % 10_000}"
    if shutil.which("ip") is None:
        pytest.skip("no `ip`: install iproute2")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no leave to make a network namespace ({made.stderr.strip()}): run the tests as root")
    try:
        for command in (
            f"ip link add {name}a type veth peer name {name}b",
            f"ip link set {name}b netns {name}",
            f"ip addr add 10.213.77.1/30 dev {name}a",
            f"ip link set {name}a up",
            f"ip -n {name} addr add 10.213.77.2/30 dev {name}b",
            f"ip -n {name} link set {name}b up",
            f"ip -n {name} link set lo up",
        ):
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no leave for `{command}` ({done.stderr.strip()}): run the tests as root")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.heavy
def test_a_board_across_a_network_whose_cable_is_pulled(tmp_path: Path, model: Path, space: str) -> None:
    with started(tmp_path, "--host", "10.213.77.2", inside=("ip", "netns", "exec", space)) as running:
        target = Remote(running.address, 1, budget_s=4.0)
        assert target.latency_ms(model, **QUICK).median_ms > 0
        subprocess.run(["ip", "link", "set", f"{space}a", "down"], check=True)
        begin = time.monotonic()
        with pytest.raises(InputError, match=r"broke off|does not answer"):
            target.latency_ms(model, **QUICK)
        assert time.monotonic() - begin < 20
        subprocess.run(["ip", "link", "set", f"{space}a", "up"], check=True)
        assert target.latency_ms(model, **QUICK).median_ms > 0


# --- TLS --------------------------------------------------------------------------------------------------------------


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with: install it")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
         str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.mark.heavy
def test_tls_with_a_certificate_of_ones_own(tmp_path: Path, model: Path) -> None:
    certificate, key = _certificate(tmp_path, "board")
    other, _ = _certificate(tmp_path, "other")
    with started(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as running:
        assert running.address.startswith("https://")
        target = open_target(f"{running.address},ca={certificate}")
        assert target.latency_ms(model, **QUICK).median_ms > 0
        for untrusted in ("", f",ca={other}"):
            with pytest.raises(InputError, match=r"certificate of .* is not trusted"):
                open_target(running.address + untrusted)
        with pytest.raises(InputError, match="holds no certificates"):
            open_target(f"{running.address},ca={key}")
        with pytest.raises(InputError, match=r"does not answer|no sartor agent"):
            open_target(running.address.replace("https", "http"))


@pytest.mark.heavy
def test_a_handshake_that_never_ends_keeps_nobody_out(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "board")
    with started(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as running:
        port = int(running.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            assert open_target(f"{running.address},ca={certificate}").threads == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tls_cert": Path("x.pem")}, "both --tls-cert and --tls-key"),
        ({"tls_cert": Path("x.pem"), "tls_key": Path("x.key")}, "no certificate and its key"),
        ({"target": "abacus"}, "no target is called 'abacus'"),
        ({"max_time_s": 1.0}, "from 5 seconds to an hour"),
        ({"token_file": Path("nowhere")}, "cannot be read"),
        ({"host": "256.1.1.1"}, "cannot listen on 256.1.1.1"),
    ],
)
def test_an_agent_that_cannot_start_says_why(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        serve(**{"port": 0, "cache": tmp_path / "cache", **options})


# --- agents that lie --------------------------------------------------------------------------------------------------

HELLO = {
    "protocol": 1,
    "versions": {"sartor": "0"},
    "device": {"cpu": "made up"},
    "cores": 2,
    "target": "onnxruntime",
    "max_size_bytes": 10**7,
    "max_time_s": 5.0,
}
LATENCY = {
    "median_ms": 1.0, "p95_ms": 1.2, "mad_ms": 0.1, "n": 20, "warmup": 5, "threads": 1, "device": "d",
    "reference_ms": 0.1, "disturbed": False, "load": 0.1, "cpu_mhz": None, "ci_ms": [0.9, 1.1], "drift": 1.0,
    "source": "measured",
}  # fmt: skip


def _lying(answer: Callable[[socket.socket], None], hello: bytes = json.dumps(HELLO).encode()) -> Any:
    def both(head: bytes, connection: socket.socket) -> None:
        if head.startswith(b"GET"):
            reply(connection, hello)
        else:
            answer(connection)

    return pretending(both)


@pytest.mark.parametrize(
    "wrong",
    [
        {"median_ms": float("nan")},
        {"median_ms": -1.0},
        {"median_ms": 0.0},
        {"median_ms": "fast"},
        {"median_ms": True},
        {"median_ms": 5.0},
        {"ci_ms": [0.5, 0.9]},
        {"p95_ms": float("inf")},
        {"n": 0},
        {"n": 2.5},
        {"threads": 64},
        {"ci_ms": [0.9]},
        {"ci_ms": [-1.0, 1.1]},
        {"source": "guessed"},
        {"device": ""},
        {"device": 7},
        {"cpu_mhz": "x"},
    ],
    ids=str,
)
def test_figures_that_no_latency_has(wrong: dict[str, Any], model: Path) -> None:
    body = json.dumps({"files": [sha256_of(model)], "latencies": [{**LATENCY, **wrong}]}).encode()
    with (
        _lying(lambda c: reply(c, body)) as address,
        pytest.raises(InputError, match=r"answers what cannot be .* its figures are not used"),
    ):
        open_target(address).latency_ms(model)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"files": ["0" * 64], "latencies": [LATENCY]}).encode(),
        json.dumps({"files": "SELF", "latencies": []}).encode(),
        json.dumps({"files": "SELF", "latencies": [LATENCY, LATENCY]}).encode(),
        json.dumps({"files": "SELF", "latencies": [None]}).encode(),
        json.dumps({"files": "SELF", "latencies": [{}]}).encode(),
    ],
)
def test_answers_that_are_none(body: bytes, model: Path) -> None:
    body = body.replace(b'"SELF"', json.dumps([sha256_of(model)]).encode())
    with (
        _lying(lambda c: reply(c, body)) as address,
        pytest.raises(InputError, match="answers what cannot be"),
    ):
        open_target(address).latency_ms(model)


def test_an_honest_answer_passes_and_its_device_cannot_steer_the_terminal(model: Path) -> None:
    row = {**LATENCY, "device": "board\x1b[2J\nx", "more": 1}
    (latency,) = read_latencies({"files": ["f"], "latencies": [row]}, ["f"], 1)
    assert latency.device == "board [2J x"
    assert latency.ci_ms == (0.9, 1.1)


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 X\r\n\r\n")
    while True:
        connection.sendall(b"0" * 2**20)


def _dripping(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.2)


def _dripping_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 X\r\nA: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda c: reply(c, b"", 302, "Location: http://elsewhere/"), "sends elsewhere"),
        (lambda c: reply(c, b"oops", 500), "HTTP 500"),
        (lambda c: reply(c, b'{"error": "\\u001b[2Jno\\nmore"}', 422), r": .?\[2Jno more"),
        (lambda c: reply(c, b'{"error": 7}', 422), "HTTP 422"),
        (lambda c: c.sendall(b"nonsense\r\n\r\n"), "broke off in the middle"),
        (lambda c: c.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{"), "broke off in the middle"),
        (lambda c: None, "broke off in the middle"),
        (lambda c: time.sleep(20), "no answer within 2 s"),
        (_dripping, "no answer within 2 s"),
        (_dripping_headers, "no answer within 2 s"),
    ],
)
def test_agents_that_break_off_hang_or_point_elsewhere(
    answer: Callable[[socket.socket], None], told: str, model: Path
) -> None:
    begin = time.monotonic()
    with _lying(answer) as address, pytest.raises(InputError, match=told) as caught:
        Remote(address, 1, budget_s=2.0).latency_ms(model)
    assert "\x1b" not in str(caught.value)
    assert time.monotonic() - begin < 8


def test_bodies_without_end_are_cut_off(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sartor.measure.targets.remote.ANSWER_BYTES", 2**22)
    with _lying(_endless) as address, pytest.raises(InputError, match="without end"):
        Remote(address, 1, budget_s=10.0).latency_ms(model)


def test_an_agent_that_never_has_the_file_is_not_asked_for_ever(model: Path) -> None:
    missing = json.dumps({"error": "send them", "missing": [sha256_of(model)]}).encode()
    asked = []

    def answer(head: bytes, connection: socket.socket) -> None:
        asked.append(head.split()[0])
        reply(
            connection,
            json.dumps(HELLO).encode() if head.startswith(b"GET") else missing,
            200 + 204 * (head[:4] == b"POST"),
        )

    with pretending(answer) as address, pytest.raises(InputError, match="send them"):
        open_target(address).latency_ms(model)
    assert asked == [b"GET", b"POST", b"PUT", b"POST"]


@pytest.mark.parametrize(
    ("hello", "told"),
    [
        (b"<html>", "no sartor agent"),
        (json.dumps({**HELLO, "protocol": 2}).encode(), "install the same sartor on both machines"),
        (json.dumps({**HELLO, "protocol": "\x1b"}).encode(), "another version"),
        (json.dumps({**HELLO, "versions": 7, "protocol": 2}).encode(), "another version"),
        (json.dumps({**HELLO, "cores": "many"}).encode(), "answers what cannot be"),
        (json.dumps({**HELLO, "max_time_s": -1}).encode(), "answers what cannot be"),
        (json.dumps({k: v for k, v in HELLO.items() if k != "device"}).encode(), "answers what cannot be"),
    ],
)
def test_hellos_of_others(hello: bytes, told: str) -> None:
    with _lying(lambda c: None, hello) as address, pytest.raises(InputError, match=told):
        open_target(address)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        b"\x93NUMPY",
        write_arrays([np.zeros((2, 10), np.float32)]),
        write_arrays([np.zeros((), np.float32)]),
        write_arrays([np.zeros((1, 10), np.float32)] * 2),
        write_arrays([np.zeros((1, 10), np.float32)])[:-1],
        write_arrays([np.zeros((1, 10), np.float32)]).replace(b"<f4", b"|O "),
        write_arrays([np.zeros((1, 10), np.float32)]).replace(b"(1, 10)", b"(-1,10)"),
    ],
)
def test_outputs_that_are_none(body: bytes, model: Path) -> None:
    with _lying(lambda c: reply(c, body)) as address, pytest.raises(InputError, match="answers what cannot be"):
        list(open_target(address).run(model, [np.zeros((1, *SHAPE), np.float32)]))


def test_arrays_come_back_as_they_were() -> None:
    arrays = [
        np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 4), np.float16), np.array([True, False]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(3, np.uint8),
    ]  # fmt: skip
    for one, other in zip(arrays, read_arrays(write_arrays(arrays)), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="pickle"):
        write_arrays([np.array([object()])])


# --- the verbs --------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_measure_takes_a_board(agent: Started, model: Path) -> None:
    from sartor.measure.model import measure_model

    measured = measure_model(str(model), target=agent.address, runs=5)
    assert measured["target"] == agent.address
    assert measured["latency_ms"] > 0
