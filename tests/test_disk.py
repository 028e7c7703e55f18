"""Files are written whole or not at all, whatever stops the writer; a run belongs to one process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sartor.disk import lock, read_json, sweep, write_atomic, write_json
from sartor.errors import InputError, WriteError


def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """A process rewrites one file for ever and is killed at many moments: what is there is always one whole version."""
    file = tmp_path / "file"
    code = (
        "import sys, itertools; from pathlib import Path; from sartor.disk import write_atomic\n"
        "for i in itertools.count(): write_atomic(Path(sys.argv[1]), bytes([i % 251]) * 1_000_000)"
    )
    for tenths in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(file)])
        deadline = time.monotonic() + 30
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.03 + 0.017 * tenths)
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = file.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1


def _write_over_the_limit(path: str, answer: multiprocessing.Queue[str]) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_atomic(Path(path), b"x" * 100_000)
    except InputError as error:
        answer.put(str(error))


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk: the write fails half-way."""
    file = tmp_path / "file"
    write_atomic(file, "old")
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_write_over_the_limit, args=(str(file), answer))
    process.start()
    message = answer.get(timeout=60)
    process.join()
    assert message.startswith(f"cannot write {file}")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full answers every write as a full disk does."""
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (full, str(tmp_path / "part")))
    with pytest.raises(WriteError, match="the disk is full"):
        write_atomic(tmp_path / "file", "x")
    assert os.listdir(tmp_path) == []


def test_a_name_in_another_encoding_is_written_as_an_escape(tmp_path: Path) -> None:
    write_atomic(tmp_path / "card.md", os.fsdecode(b"m\xfcller"))
    assert (tmp_path / "card.md").read_text() == "m\\udcfcller"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", "x")


def test_json_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": [1, 2.5, None]})
    assert read_json(file) == {"a": [1, 2.5, None]}
    for damaged in ('{"a": ', "[" * 100_000, "9" * 5_000):
        file.write_text(damaged)
        with pytest.raises(InputError, match=r"a\.json cannot be read"):
            read_json(file)
    with pytest.raises(InputError, match="is missing"):
        read_json(tmp_path / "b.json")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(file, float("nan"))


def test_the_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sartor.disk import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"in use by process {process.pid}"), lock(tmp_path):
        raise AssertionError("two hold the lock")
    process.kill()
    process.wait()
    with lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_sweep_takes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    left = tmp_path / "models" / ".model.onnx.abc.part"
    left.write_bytes(b"half")
    folder = tmp_path / ".photos.part"
    folder.mkdir()
    sweep(tmp_path)
    assert not left.exists()
    assert folder.is_dir()
