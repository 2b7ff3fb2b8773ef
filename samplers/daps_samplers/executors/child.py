"""A worker process: it reads a job and then tasks from its standard input, and ends when that is closed.

A message is a letter, the length of what follows in 8 bytes, and that. To the worker: `J`, a JSON object {function,
number} in a line and then the setup of the job; `T`, a task. From it: `R`, it is ready; `A`, JSON, the share of the
task that is done; `D`, the result; `F`, JSON [cause, text]. What a worker prints goes to its standard error.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from typing import BinaryIO

from daps_kit.errors import UserError
from daps_kit.executor import begin

__all__ = ["frame", "main", "read_frame"]

HEADER = struct.Struct("<cQ")

BEAT = 0.5
"""Seconds between two signs of life."""


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """Return a message."""
    return HEADER.pack(kind, len(content)) + content


def read_frame(file: BinaryIO) -> tuple[bytes, bytes] | None:
    """Return the next message; None where the file ends."""
    head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    kind, length = HEADER.unpack(head)
    content = file.read(length)
    return (kind, content) if len(content) == length else None


class _Beats:
    """Tells of life now and then."""

    def __init__(self, out: BinaryIO) -> None:
        self.out, self.last = out, -BEAT

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self.last >= BEAT:
            self.last = now
            _send(self.out, b"A", json.dumps(share).encode())


def _send(out: BinaryIO, kind: bytes, content: bytes = b"") -> None:
    out.write(frame(kind, content))
    out.flush()


def _listen(file: BinaryIO, inbox: queue.SimpleQueue[bytes]) -> None:
    """Hand on what is read. When who asks is gone, nobody wants what is computed here: the process ends at once."""
    while (message := read_frame(file)) is not None:
        inbox.put(message[1])
    os._exit(0)


def main() -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), daemon=True).start()
    try:
        head, _, setup = inbox.get().partition(b"\n")
        said = json.loads(head)
        compute = begin(said["function"], setup, said["number"])
        _send(out, b"R")
        beats = _Beats(out)
        while True:
            task = inbox.get()
            try:
                _send(out, b"D", compute(task, beats))
            except MemoryError:
                _send(out, b"F", json.dumps(["memory", "not enough memory"]).encode())
    except UserError as error:
        _send(out, b"F", json.dumps(["refused", str(error)]).encode())
    except Exception:  # noqa: BLE001 (who asks raises it)
        _send(out, b"F", json.dumps(["bug", traceback.format_exc()]).encode())
    inbox.get()  # until who asks has read it
