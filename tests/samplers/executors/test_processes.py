"""Worker processes: what they do, and what is made of it when they are killed, hang, refuse or run out of memory."""

from __future__ import annotations

import os
import signal
import time

import pytest

from daps_kit.errors import UserError
from daps_kit.executor import Done, Failed, Said, State
from daps_samplers.executors import processes
from daps_samplers.executors.local import LocalPool
from daps_samplers.executors.processes import ProcessExecutor, ProcessPool
from tests.samplers.executors.toy_job import events, job


def open_pool(workers=1, silence=60.0, setup=b"1.0"):
    return ProcessExecutor(workers, silence).open(job(setup))


def test_tasks_and_what_becomes_of_them():
    with open_pool(2) as pool:
        assert (pool.apart, pool.size) == (True, 2)
        assert pool.states() == [State("0", "starting"), State("1", "starting")]
        pool.submit(1, b"beat 12")
        pool.submit(2, b"memory")
        shares: list[float] = []
        failed, done = events(pool, 2, shares)
        assert failed == Failed(2, "memory", "not enough memory")
        assert (done.task, done.result[1:]) == (1, b" did 7 bytes: beat 12")
        assert len(shares) > 1
        assert shares == sorted(shares)
        assert [state.doing for state in pool.states()] == ["waiting", "waiting"]
        pool.submit(3, b"x" * 3_000_000)  # more than a pipe holds
        (done,) = events(pool, 1)
        assert done.result[1:] == b" did 3000000 bytes: " + b"x" * 20
        others = [worker.process for worker in pool.workers]
    assert all(process.wait(20) == -signal.SIGKILL for process in others)


def test_one_that_is_killed_is_replaced():
    with open_pool() as pool:
        pool.submit(1, b"die")
        said, failed = events(pool, 2)
        text = "worker 0 was ended by SIGKILL, as where memory runs out: my last words"
        assert said == Said(f"{text}; another takes its place")
        assert failed == Failed(1, "died", text)
        pool.submit(2, b"again")
        assert events(pool, 1) == [Done(2, b"0 did 5 bytes: again")]
        os.kill(pool.workers[0].process.pid, signal.SIGKILL)  # while it has nothing to do
        assert events(pool, 1) == [
            Said("worker 0 was ended by SIGKILL, as where memory runs out; another takes its place")
        ]


@pytest.mark.slow
def test_one_that_hangs_is_ended_and_replaced():
    with open_pool(silence=2.0) as pool:
        while not pool.workers[0].ready:
            pool.wait(0.1)
        pool.submit(1, b"beat 30")  # longer than that, and never silent
        assert isinstance(events(pool, 1)[0], Done)
        pool.submit(2, b"hang")
        begun = time.monotonic()
        found = events(pool, 2)
        assert 1.5 < time.monotonic() - begun < 30
        text = "worker 0 gave no sign of life for 2 s and was ended"
        assert found == [Said(f"{text}; another takes its place"), Failed(2, "silent", text)]


def test_one_that_never_starts_is_ended(monkeypatch):
    monkeypatch.setattr(processes, "STARTING", 0.5)
    with (
        open_pool(silence=0.2, setup=b"hang") as pool,
        pytest.raises(UserError, match=r"do not start; .* for 0\.5 s"),
    ):
        events(pool, 9)


def test_a_worker_that_cannot_work_here_ends_the_run():
    with open_pool(setup=b"refuse") as pool:
        assert events(pool, 1) == [Failed(None, "refused", "other versions")]


def test_workers_that_do_not_start_end_the_run():
    with open_pool(setup=b"die") as pool, pytest.raises(UserError) as caught:
        events(pool, 9)
    assert str(caught.value) == "execution: workers do not start; worker 0 ended with 3: cannot start"


def test_a_bug_is_a_traceback():
    with open_pool() as pool:
        pool.submit(1, b"bug")
        with pytest.raises(RuntimeError, match=r"(?s)worker 0 failed\n.*what is this"):
            events(pool, 1)


@pytest.mark.parametrize(("here", "faster"), [(1.9, True), (2.1, False)])
def test_what_is_faster_is_taken(monkeypatch, here, faster):
    monkeypatch.setattr(processes, "cores", lambda: 2)
    with ProcessExecutor("auto", 60.0).open(job(b"1.0", here)) as pool:
        assert isinstance(pool, ProcessPool if faster else LocalPool)
        (said,) = pool.wait(0.0)
        assert said.text.startswith(f"tried: 2 processes of one thread are {2 / here:.2f} times as fast")
        assert said.text.endswith("they are taken" if faster else "which is taken")


def test_one_core_is_not_tried(monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 1)
    with ProcessExecutor("auto", 60.0).open(job()) as pool:
        assert isinstance(pool, LocalPool)
