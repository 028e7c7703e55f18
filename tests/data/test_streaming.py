from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import torch

from sartor.data import open_data, shuffled
from sartor.data.decoders import Worker
from sartor.errors import InputError


@pytest.mark.parametrize("form", ["folder", "parquet", "npz", "resized npz"])
def test_streamed_sets_give_the_same_batches_as_held_ones(form, write, images):
    x, y = images
    source = (
        {"folder": write.folder, "parquet": write.parquet}[form](x, y) if "npz" not in form else write.npz(x=x, y=y)
    )
    side = 7 if form == "resized npz" else None
    held, streamed = open_data(source, resolution=side), open_data(source, resolution=side, memory_share=0, workers=2)
    assert held.train.in_memory
    assert not streamed.train.in_memory
    assert held.splits == streamed.splits
    assert (held.mean, held.std, held.train.shape) == (streamed.mean, streamed.std, streamed.train.shape)
    pairs = zip(shuffled(held.train, 13, seed=3, start=2), shuffled(streamed.train, 13, seed=3, start=2), strict=False)
    for (a, a_labels), (b, b_labels) in islice(pairs, 8):
        assert torch.equal(a, b)
        assert torch.equal(a_labels, b_labels)


def broken_folder(write, n_broken: int):
    """300 images of two classes, the first few of class one not images."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (300, 6, 6), dtype=np.uint8), np.repeat([0, 1], 150)
    folder = write.folder(x, y)
    names = [f"ant/{i:04d}.png" for i in range(n_broken)]
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:-30])
    return folder, names


def test_unreadable_images_are_skipped_and_listed(write):
    folder, names = broken_folder(write, 3)
    data = open_data(folder)
    assert [text.split(":")[0] for text in data.skipped] == names
    assert sum(s["n"] for s in data.splits.values()) == 297
    assert not {name for s in ("train", "val", "test") for name in data.members(s)} & set(names)


def test_streams_replace_unreadable_images_by_others_of_their_class(write):
    folder, names = broken_folder(write, 3)
    held, streamed = open_data(folder), open_data(folder, memory_share=0)
    readable = {pixels.numpy().tobytes(): label for s in (held.train, held.val, held.test)
                for pixels, label in zip(s.take(np.arange(len(s))), s.labels.tolist(), strict=True)}  # fmt: skip
    for split in (streamed.train, streamed.val, streamed.test):
        every = np.arange(len(split))
        pixels = split.take(every)
        assert [readable[image.numpy().tobytes()] for image in pixels] == split.labels.tolist()
        assert torch.equal(pixels, split.take(every))  # the second time it knows, and the replacement is the same
    assert [text.split(":")[0] for text in streamed.skipped] == names


def read_all(folder, memory_share):
    data = open_data(folder, memory_share=memory_share)
    for split in (data.train, data.val, data.test):
        split.take(np.arange(len(split)))


@pytest.mark.parametrize("memory_share", [0, 0.25])
def test_more_than_one_in_a_hundred_unreadable_stops(memory_share, write):
    folder, _ = broken_folder(write, 12)
    with pytest.raises(InputError, match=r"of \d+ images cannot be read, more than 1%.*ant/\d{4}.png \(.*truncated"):
        read_all(folder, memory_share)


def test_a_killed_decoding_process_is_replaced(write, images):
    x, y = images
    paths = sorted(map(str, write.folder(x, y).rglob("*.png")))
    worker = Worker(())
    first, errors = worker.decode(paths, 3, 12)
    assert (first == x.transpose(0, 3, 1, 2)).all()
    assert errors == {}
    os.kill(worker._process.pid, signal.SIGKILL)
    assert (worker.decode(paths, 3, 12)[0] == first).all()
    worker.close()


def test_large_requests_and_answers_do_not_block(write, images):
    x, y = images
    paths = sorted(map(str, write.folder(x, y).rglob("*.png"))) * 40
    pixels, _ = (worker := Worker(())).decode(paths, 3, 32)  # 7 MB back, 200 kB there: pipes hold 64 kB
    assert len(pixels) == 2400
    worker.close()


def test_decoding_processes_end_with_their_parent(write, images):
    folder = write.folder(*images)
    code = (
        "import sys, time; from sartor.data import open_data, shuffled\n"
        f"data = open_data({str(folder)!r}, memory_share=0, workers=1)\n"
        "next(shuffled(data.train, 4, seed=0))\n"
        "print(data.train._decoders._free.get()._process.pid, flush=True); time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    worker = int(parent.stdout.readline())
    assert alive(worker)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent to notice does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_iterating_part_of_a_stream_and_leaving_ends_cleanly(write, images):
    data = open_data(write.parquet(*images), memory_share=0, workers=1)
    for _ in range(3):
        batches = shuffled(data.train, 5, seed=0)
        next(batches)
        batches.close()
    gc.collect()  # what other tests left
    open_files = len(os.listdir("/proc/self/fd"))
    del data, batches
    assert len(os.listdir("/proc/self/fd")) == open_files - 3  # two pipes and the temporary file
