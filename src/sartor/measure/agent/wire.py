"""What the agent and its client say to each other: the version, the paths, arrays, and what is believed of an answer.

HTTP/1.1; every request carries ``Authorization: Bearer TOKEN``, never a token in its address.

    GET  /v1/hello          the agent's versions, device and limits
    PUT  /v1/files/SHA256   a file, kept under the hash of its content
    POST /v1/latencies      JSON: hashes and how to time them; all in one job, so that they are interleaved
    POST /v1/run/SHA256     batches, as ``.npy`` one behind the other; the answer has the outputs, likewise

An error is JSON with ``error``, one line. Nothing that is received is believed before it was looked at, on both sides.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from sartor.measure.timing import Latency

PROTOCOL = 1
ANSWER_BYTES = 256 * 2**20
"""No answer is longer."""

HASH = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(rb"\x93NUMPY\x01\x00(..)", re.DOTALL)


class Malformed(ValueError):
    """What was received is not what it must be; the message says what of it."""


def one_line(text: object, most: int = 300) -> str:
    """``text`` as it may be printed: one line without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:most])


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``; NaN and infinity are none. Raises Malformed."""

    def refuse(constant: str) -> float:
        raise Malformed(f"{constant} is no JSON")

    try:
        value = json.loads(body.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON ({one_line(error, 80)})") from error
    if not isinstance(value, dict):
        raise Malformed("no JSON object")
    return value


def write_arrays(arrays: Iterable[np.ndarray]) -> bytes:
    """``arrays`` as ``.npy``, one behind the other."""
    out = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(out, np.asarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()


def read_arrays(body: bytes) -> list[np.ndarray]:
    """The inverse of :func:`write_arrays`: numbers and booleans only. Raises Malformed.

    Rejected: ``.npz``, whose few bytes may unpack to many; and ``np.load``, which believes a header's shape and
    allocates it before it looks whether the numbers are there.
    """
    found, place = [], 0
    while place < len(body):
        head = _HEADER.match(body, place)
        if head is None:
            raise Malformed("no .npy array")
        start = head.end() + int.from_bytes(head[1], "little")
        try:
            header = ast.literal_eval(body[head.end() : start].decode("latin1"))
            dtype, shape, columns = np.dtype(header["descr"]), header["shape"], header["fortran_order"]
        except Exception as error:  # whatever a made-up header makes of them
            raise Malformed("a damaged .npy header") from error
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise Malformed(f"an array of {one_line(dtype, 40)}, which are no numbers")
        if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
            raise Malformed("an array without a shape")
        end = start + math.prod(shape) * dtype.itemsize
        if end > len(body) or len(shape) > 32:
            raise Malformed("an array that is cut off")
        array = np.frombuffer(body, dtype, math.prod(shape), start)
        found.append(array.reshape(shape, order="F" if columns else "C"))
        place = end
    return found


def read_latencies(answer: dict[str, Any], hashes: Sequence[str], threads: int) -> list[Latency]:
    """The latencies in an agent's answer about the files ``hashes``. Raises Malformed for what cannot be one."""
    if answer.get("files") != list(hashes):
        raise Malformed("it timed other files than those that were sent")
    rows = answer.get("latencies")
    if not isinstance(rows, list) or len(rows) != len(hashes):
        raise Malformed(f"it has not one latency for each of {len(hashes)} files")
    return [_latency(row, threads) for row in rows]


def _latency(row: Any, threads: int) -> Latency:
    names = {item.name for item in fields(Latency)}
    if not isinstance(row, dict) or not names - {"drift", "source"} <= set(row):
        raise Malformed("a latency lacks some of its figures")
    known: dict[str, Any] = {name: row[name] for name in names & set(row)}
    interval = known["ci_ms"]
    if not isinstance(interval, list) or len(interval) != 2 or not all(_number(x) for x in interval):
        raise Malformed("a latency has no interval")
    known["ci_ms"] = (float(interval[0]), float(interval[1]))
    for name in ("median_ms", "p95_ms", "mad_ms", "reference_ms", "load", "drift"):
        if name in known and not _number(known[name]):
            raise Malformed(f"{name} is {one_line(known[name], 40)}, which no latency has")
    if known["cpu_mhz"] is not None and not _number(known["cpu_mhz"]):
        raise Malformed("the clock is no number")
    low, high = known["ci_ms"]
    if not 0 < low <= known["median_ms"] <= min(high, known["p95_ms"]):
        raise Malformed(f"a median of {known['median_ms']} ms outside of its interval, or over the 95th percentile")
    if not all(type(known[name]) is int for name in ("n", "warmup", "threads")) or known["n"] < 1:
        raise Malformed("a latency of no samples")
    if known["threads"] != threads:
        raise Malformed(f"it timed {known['threads']} threads, not {threads}")
    if type(known["disturbed"]) is not bool or known.get("source", "measured") not in ("measured", "simulated"):
        raise Malformed("a latency whose source is not known")
    if not isinstance(known["device"], str) or not known["device"]:
        raise Malformed("a latency of no device")
    known["device"] = one_line(known["device"], 200)
    return Latency(**known)


def _number(value: Any) -> bool:
    """A finite number that is not negative."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12
