"""A task on a worker of dask: the job is begun with the first of its tasks there, and is kept for those that follow.

dask carries functions by their names, and this is the one; what it is given and what it returns are bytes, texts and
numbers. It needs neither torch nor anything of the run but what the job begins.
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from daps_kit.errors import UserError
from daps_kit.executor import Compute, begin

__all__ = ["Outcome", "end", "work"]

distributed: Any = import_module("distributed")

VERSION: str = distributed.__version__

Outcome = tuple[str, bytes | str]
"""`done` and the result; or `memory`, `refused`, `bug` or `unwanted` and a text."""


class _UnwantedError(BaseException):
    """Nobody waits for the result any more; no sampler is to take this for an error of its own."""


@dataclass
class _Begun:
    """The job that this process has begun last; one task at a time has it."""

    lock: threading.Lock
    job: tuple[str, bytes, int] | None = None
    compute: Compute | None = None


_BEGUN = _Begun(threading.Lock())


class _Beats:
    """Tells the client now and then that a task is at work, and ends it where it is not wanted any more."""

    def __init__(self, topic: str, number: int, seconds: float) -> None:
        self.topic, self.number, self.seconds = topic, number, seconds
        self.worker: Any = distributed.get_worker()
        self.key = self.worker.get_current_task()
        self.last = -seconds

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return
        self.last = now
        task = self.worker.state.tasks.get(self.key)
        if task is None or task.state == "cancelled" or self.worker.status.name in ("closing", "closed"):
            raise _UnwantedError
        self.worker.log_event(self.topic, {"task": self.number, "share": share})


def work(
    version: str,
    function: str,
    setup: bytes,
    worker: int,
    task: bytes,
    topic: str,
    number: int,
    seconds: float,
) -> Outcome:
    """Return what became of a task.

    Args:
        version: of distributed, where the client is.
        function, setup: those of the job.
        worker: the number of this worker among those of its machine.
        task: what is to be done.
        topic: under which signs of life are told.
        number: of the task.
        seconds: between two of them.
    """
    if version != VERSION:
        return "refused", (
            "execution: a worker has other versions than the run, which are to be the same: distributed "
            f"{VERSION} in place of {version}"
        )
    tell = _Beats(topic, number, seconds)
    try:
        while not _BEGUN.lock.acquire(
            timeout=seconds
        ):  # someone else's task, where a worker has several threads
            tell(0.0)
        try:
            if _BEGUN.compute is None or _BEGUN.job != (function, setup, worker):
                _BEGUN.job = _BEGUN.compute = None  # one prior at a time
                _BEGUN.compute = begin(function, setup, worker)
                _BEGUN.job = function, setup, worker
            tell(0.0)
            return "done", _BEGUN.compute(task, tell)
        finally:
            _BEGUN.lock.release()
    except _UnwantedError:
        return "unwanted", ""
    except MemoryError:
        return "memory", "not enough memory"
    except UserError as error:
        return "refused", str(error)
    except Exception:  # noqa: BLE001 (the client raises it)
        return "bug", traceback.format_exc()


async def end(dask_worker: Any) -> None:
    """End the worker of a nanny, which then starts another; dask hands a function that it runs there the nanny."""
    await dask_worker.kill(timeout=2.0)
