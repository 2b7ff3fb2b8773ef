"""Workers of dask: what they do, and what is made of it when they are killed, hang, refuse or lose their scheduler."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from daps_kit.errors import UserError
from daps_kit.executor import Done, Failed, Said, State
from daps_samplers.executors import Dask, dask
from tests.samplers.executors.toy_job import events, job

distributed = pytest.importorskip("distributed")
dask_task = pytest.importorskip("daps_samplers.executors.dask_task")

# Threads of dask end a little later than what they serve.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A scheduler and a worker, in threads of this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0",
        resources={"CAMERA": 1}, silence_logs=100,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


@pytest.fixture
def open_pool(scheduler):
    @contextlib.contextmanager
    def open_pool(setup=b"1.0", **settings):
        dask_task._BEGUN.compute = None
        with Dask(scheduler=scheduler, **settings).build().open(job(setup)) as pool:
            (dashboard,) = pool.wait(0.0)
            assert re.fullmatch(r"dashboard: http://127.0.0.1:\d+/status", dashboard.text)
            yield pool

    return open_pool


def test_tasks_and_what_becomes_of_them(open_pool):
    with open_pool() as pool:
        assert (pool.apart, pool.size) == (True, 1)
        pool.submit(1, b"memory")
        pool.submit(2, b"x" * 12_000_000)  # dask warns of as much, elsewhere
        shares: list[float] = []
        assert events(pool, 2, shares) == [
            Failed(1, "memory", "not enough memory"), Done(2, b"0 did 12000000 bytes: " + b"x" * 20)
        ]  # fmt: skip
        assert shares == [0.0, 0.0]
        assert [state.doing for state in pool.states()] == ["waiting"]


def test_what_is_not_wanted_is_dropped(open_pool):
    with open_pool(silence=2.0) as pool:
        pool.submit(1, b"beat 300")
        begun = time.monotonic()
        assert pool.states() == [State(*pool.workers, "starting")]
        while not pool.wait(0.3):
            pass
        assert pool.states() == [State(*pool.workers, "at work")]
        pool.forget(1)
        pool.submit(2, b"next")
        assert events(pool, 1) == [Done(2, b"0 did 4 bytes: next")]
    with open_pool(silence=2.0) as pool:
        pool.submit(1, b"beat 300")
        pool.wait(0.3)
    with open_pool() as pool:  # the client is gone
        pool.submit(1, b"next")
        assert events(pool, 1) == [Done(1, b"0 did 4 bytes: next")]
    assert time.monotonic() - begun < 20


def test_a_worker_that_hangs_and_cannot_be_restarted_gets_no_more(open_pool, monkeypatch):
    monkeypatch.setattr(dask, "STARTING", 0.0)
    with open_pool(silence=0.2) as pool:
        pool.submit(1, b"sleep 0.5")
        (worker,) = pool.workers
        text = f"worker {worker} gave no sign of life for 0.2 s and gets no more to do"
        assert events(pool, 2) == [Said(text), Failed(1, "silent", text)]
        assert pool.size == 0
        assert pool.states() == [State(worker, "silent")]


def test_a_worker_that_cannot_work_here_ends_the_run(open_pool, monkeypatch):
    with open_pool(b"refuse") as pool:
        pool.submit(1, b"")
        assert events(pool, 1) == [Failed(None, "refused", "other versions")]
    monkeypatch.setattr(dask_task, "VERSION", "1.2")
    with open_pool() as pool:
        pool.submit(1, b"")
        (failed,) = events(pool, 1)
        assert failed.text == (
            "execution: a worker has other versions than the run, which are to be the same: distributed 1.2 in place "
            f"of {distributed.__version__}"
        )


def test_a_bug_is_a_traceback(open_pool):
    with open_pool() as pool:
        pool.submit(1, b"bug")
        with pytest.raises(RuntimeError, match=r"(?s)worker tcp.* failed\n.*what is this"):
            events(pool, 1)


def test_workers_without_what_is_needed_get_nothing(open_pool):
    with open_pool(resources={"CAMERA": 1}) as pool:
        assert pool.size == 1
    with open_pool(resources={"CAMERA": 2}) as pool:
        assert pool.size == 0
        pool.submit(1, b"")
        assert pool.wait(0.1) == []


def test_where_no_scheduler_is_the_run_ends(monkeypatch):
    monkeypatch.setattr(dask, "ANSWER", 0.3)
    with pytest.raises(UserError, match=r"^execution.scheduler: nobody answers at tcp://127.0.0.1:1: "):  # noqa: SIM117
        with Dask(scheduler="tcp://127.0.0.1:1").build().open(job()):
            pass


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    with pytest.raises(UserError) as caught:
        Dask(cluster="kubernetes", workers=2).build()
    assert str(caught.value) == "execution: it needs dask_kubernetes: pip install 'daps-kit[cluster]'"


def test_why_there_are_no_workers_is_told(monkeypatch):
    executor = Dask(workers=2, options={"colour": "red"}).build()
    for program, why in (
        ('print(\'{"error": "no such queue\\\\nso"}\')', "no such queue"),
        ("", "it ended at once"),
    ):
        monkeypatch.setattr(dask, "PROGRAM", program)
        with pytest.raises(UserError) as caught, executor.open(job()):
            pass
        assert str(caught.value) == f"execution: local does not start: {why}"


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A program of dask, and what it logs."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.slow
def test_the_scheduler_is_killed():
    with started(
        "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"
    ) as process:
        address = next(found[0] for line in process.stderr if (found := re.search(r"tcp://\S+:\d+", line)))
        with Dask(scheduler=address).build().open(job()) as pool:
            assert pool.size == 0
            process.kill()
            with pytest.raises(
                UserError, match=f"the scheduler {address} is gone; .* the same command goes on"
            ):
                events(pool, 2)  # the first says where a dashboard would be


@pytest.mark.slow
def test_workers_of_this_machine_that_are_killed_are_replaced():
    with Dask(workers=1, silence=2.0).build().open(job()) as pool:
        assert len(pool.wait(0.0)) == 1
        (address,) = pool.workers
        pool.submit(1, b"die")
        text = f"worker {address} was lost"
        assert events(pool, 2) == [Said(text), Failed(1, "died", text)]
        pool.submit(2, b"hang")  # for the one that takes its place
        said, failed = events(pool, 2)
        assert (failed.task, failed.cause) == (2, "silent")
        assert said.text.endswith("gave no sign of life for 2 s and was ended")
        pool.submit(3, b"again")
        found = events(pool, 2)  # and that the other is lost
        assert Done(3, b"0 did 5 bytes: again") in found
        pool.submit(4, b"beat 25")  # longer than the silence, and never silent
        shares: list[float] = []
        assert events(pool, 1, shares) == [Done(4, b"0 did 7 bytes: beat 25")]
        assert len(shares) > 2
        assert shares == sorted(shares)
