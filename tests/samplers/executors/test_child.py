"""The program of a worker, talked to as the run does."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daps_samplers.executors.child import frame, read_frame
from daps_samplers.executors.processes import PROGRAM
from tests.samplers.executors.toy_job import FUNCTION


def test_messages_are_read_as_they_were_written():
    text = frame(b"D", b"x" * 300) + frame(b"R") + frame(b"D", b"cut short")[:-1]
    file = io.BytesIO(text)
    assert [read_frame(file) for _ in range(4)] == [(b"D", b"x" * 300), (b"R", b""), None, None]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        head = json.dumps({"function": FUNCTION, "number": 7}).encode()
        process.stdin.write(frame(b"J", head + b"\nset\nup"))
        process.stdin.flush()
        yield process
        process.kill()


def test_it_answers_and_ends_with_who_asks(child):
    assert read_frame(child.stdout) == (b"R", b"")
    for task, answer in (
        (b"print aloud", (b"D", b"7 did 11 bytes: print aloud")),
        (b"memory", (b"F", b'["memory", "not enough memory"]')),
        (b"trial", (b"D", b"set\nup")),
    ):
        child.stdin.write(frame(b"T", task))
        child.stdin.flush()
        assert read_frame(child.stdout) == answer
    child.stdin.write(frame(b"T", b"hang"))
    child.stdin.close()
    assert child.wait(20) == 0
    assert child.stderr.read().count(b"aloud") == 2
