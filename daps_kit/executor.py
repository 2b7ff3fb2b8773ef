"""What an executor must do: where the batches of a run are computed. The contract behind `execution`, without torch.

    who asks:  a Job, tasks -> Pool.submit; Pool.wait -> Done, Failed, Alive        a worker:  begin(); task -> result

The run alone knows what there is to do and writes the results, unless workers share its folder; workers keep what is
expensive to build and do not see the recipe. Job, task and result are bytes, so that an executor needs to know nothing
of samples, and nothing is pickled between machines. What becomes of a task that fails, the run decides: a pool only
says what happened to it.
"""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, TypeVar

__all__ = [
    "Alive",
    "Cause",
    "Compute",
    "Done",
    "Event",
    "Executor",
    "Failed",
    "Job",
    "Pool",
    "Said",
    "State",
    "Tell",
    "arrived",
    "begin",
]

T = TypeVar("T")

Tell = Callable[[float], None]
"""Hears now and then how much of a task is done, from 0 to 1: that the worker is alive."""

Compute = Callable[[bytes, Tell], bytes]
"""A worker that was begun: it makes a result of a task. Raises MemoryError where memory does not suffice."""

Cause = Literal["memory", "died", "silent", "refused"]
"""Why a task failed: its worker ran out of memory, ended, was silent for too long, or cannot do this job at all."""


@dataclass(frozen=True)
class Job:
    """What workers are begun with.

    Attributes:
        function: `module:name` of what begins a worker: it takes `setup` and the worker's number, and returns a
            `Compute`.
        setup: what it is told.
        devices: how many devices there are here, one for each worker; 0 where they compute on processor cores.
        trial: a task that takes about a second; its result is a number in text, how much was done a second.
        here: a worker that was begun in this process already, with all its threads.
    """

    function: str
    setup: bytes
    devices: int
    trial: bytes
    here: Compute = field(compare=False)


def begin(function: str, setup: bytes, number: int) -> Compute:
    """Begin a worker in this process.

    Args:
        function, setup: those of the job.
        number: of the worker, from 0; where there are several devices it says which is its own.

    Raises:
        UserError: it cannot work here; the text says why.
    """
    module, _, name = function.partition(":")
    begun: Compute = getattr(import_module(module), name)(setup, number)
    return begun


def arrived(inbox: queue.SimpleQueue[T], seconds: float) -> list[T]:
    """Return all that came into an inbox, waiting so long for the first, as `Pool.wait` does."""
    found: list[T] = []
    try:
        found.append(inbox.get(timeout=seconds))
        while True:
            found.append(inbox.get_nowait())
    except queue.Empty:
        return found


@dataclass(frozen=True)
class Done:
    """A task has its result."""

    task: int
    result: bytes


@dataclass(frozen=True)
class Failed:
    """A task has none.

    Attributes:
        task: its number; None where it is the pool that cannot go on, which ends the run.
        cause: why.
        text: the same in words, with what the worker said last.
    """

    task: int | None
    cause: Cause
    text: str


@dataclass(frozen=True)
class Alive:
    """A worker is at work on a task, of which so much is done, from 0 to 1."""

    task: int
    share: float


@dataclass(frozen=True)
class Said:
    """Something that a person may want to know: that a worker was replaced, where a dashboard is."""

    text: str


Event = Done | Failed | Alive | Said


@dataclass(frozen=True)
class State:
    """What a worker is doing.

    Attributes:
        worker: its name.
        doing: `silent` is one that hangs, cannot be ended and gets no more to do.
        share: how much of its task is done, from 0 to 1.
    """

    worker: str
    doing: Literal["starting", "at work", "waiting", "silent"]
    share: float = 0.0


class Pool(ABC):
    """Workers of one job.

    Attributes:
        apart: whether they are other processes than the run's; one that is not takes one task at a time, in `wait`.
    """

    apart: bool = True

    @property
    @abstractmethod
    def size(self) -> int:
        """How many tasks can be at work at once; it may change, also to 0 for a while."""

    @abstractmethod
    def states(self) -> list[State]:
        """Return what each worker is doing."""

    @abstractmethod
    def submit(self, number: int, task: bytes) -> None:
        """Give out a task under a number of its own; there are never more than `size` without an outcome."""

    @abstractmethod
    def wait(self, seconds: float) -> Iterable[Event]:
        """Return what happened, waiting so long for the first event. Each task comes to one `Done` or `Failed`.

        Raises:
            UserError: no worker can work with this job.
            Exception: whatever else a worker raised; it is a bug.
        """

    @abstractmethod
    def forget(self, number: int) -> None:
        """Say that the outcome of a task is no longer of interest; it may come or not."""


class Executor(ABC):
    """Opens pools.

    Attributes:
        shared_folder: whether workers see the files of the run where it does; then they write their results there, and
            what a pool brings is that they did.
    """

    shared_folder: bool = False

    @abstractmethod
    def open(self, job: Job) -> AbstractContextManager[Pool]:
        """Return a context whose workers end with it, however it ends.

        Raises:
            UserError: there are no workers.
        """
