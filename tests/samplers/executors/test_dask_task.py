"""What a worker of dask does, without dask: `get_worker` is the only thing of it that a task asks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.samplers.executors.toy_job import FUNCTION

distributed = pytest.importorskip("distributed")
dask_task = pytest.importorskip("daps_samplers.executors.dask_task")


class Worker:
    """Stands for a worker of dask."""

    def __init__(self) -> None:
        self.task = SimpleNamespace(state="executing")
        self.state = SimpleNamespace(tasks={"key": self.task})
        self.status = SimpleNamespace(name="running")
        self.told: list[dict[str, float]] = []

    def get_current_task(self) -> str:
        return "key"

    def log_event(self, topic: str, told: dict[str, float]) -> None:
        assert topic == "topic"
        self.told.append(told)


@pytest.fixture
def worker(monkeypatch):
    worker = Worker()
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(dask_task, "_BEGUN", dask_task._Begun(dask_task.threading.Lock()))
    return worker


def work(task, setup=b"", number=0, version=distributed.__version__):
    return dask_task.work(version, FUNCTION, setup, number, task, "topic", 7, 0.01)


def test_a_job_is_begun_once(worker):
    assert work(b"one", number=3) == ("done", b"3 did 3 bytes: one")
    begun = dask_task._BEGUN.compute
    assert work(b"two", number=3) == ("done", b"3 did 3 bytes: two")
    assert dask_task._BEGUN.compute is begun
    assert work(b"two", number=4) == ("done", b"4 did 3 bytes: two")
    assert worker.told == [{"task": 7, "share": 0.0}] * 3


def test_what_goes_wrong_is_told(worker):
    assert work(b"memory") == ("memory", "not enough memory")
    assert work(b"", b"refuse") == ("refused", "other versions")
    kind, text = work(b"bug")
    assert (kind, text.splitlines()[-1]) == ("bug", "ValueError: what is this")
    assert work(b"", version="0.1")[0] == "refused"
    assert work(b"next") == ("done", b"0 did 4 bytes: next")


@pytest.mark.parametrize("how", ["cancelled", "released", "closing"])
def test_it_stops_where_nobody_waits(worker, how):
    if how == "cancelled":
        worker.task.state = "cancelled"
    elif how == "released":
        worker.state.tasks.clear()
    else:
        worker.status.name = "closing"
    assert work(b"beat 99") == ("unwanted", "")
    assert not dask_task._BEGUN.lock.locked()


def test_it_is_alive_while_another_task_is_at_work(worker):
    dask_task._BEGUN.lock.acquire()
    original = worker.log_event

    def log_event(topic, told):
        original(topic, told)
        if len(worker.told) == 3:
            dask_task._BEGUN.lock.release()

    worker.log_event = log_event
    assert work(b"one")[0] == "done"
    assert len(worker.told) >= 3


def test_a_nanny_ends_its_worker():
    ended: list[float] = []

    class Nanny:
        async def kill(self, timeout: float) -> None:
            ended.append(timeout)

    asyncio.run(dask_task.end(Nanny()))
    assert ended == [2.0]
