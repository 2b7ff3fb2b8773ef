"""A job is begun by its name."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from daps_kit.errors import UserError
from daps_kit.executor import arrived, begin
from tests.samplers.executors.toy_job import FUNCTION, job


def test_a_worker_is_begun_by_its_name():
    assert begin(FUNCTION, b"", 4)(b"task", lambda share: None) == b"4 did 4 bytes: task"
    with pytest.raises(UserError, match="other versions"):
        begin(FUNCTION, b"refuse", 0)


def test_jobs_are_the_same_whatever_was_begun_here():
    assert job(here=1.0) == job(here=2.0)
    assert job(b"a") != job(b"b")


def test_what_arrived_is_taken_at_once_and_the_first_is_waited_for():
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
    begun = time.monotonic()
    assert arrived(inbox, 0.05) == []
    assert time.monotonic() - begun >= 0.05
    for number in range(3):
        inbox.put(number)
    begun = time.monotonic()
    assert arrived(inbox, 60.0) == [0, 1, 2]
    threading.Timer(0.1, inbox.put, (3,)).start()
    assert arrived(inbox, 60.0) == [3]
    assert 0.05 < time.monotonic() - begun < 30
