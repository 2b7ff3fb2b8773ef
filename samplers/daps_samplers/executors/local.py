"""In the run's own process: a task is computed while its outcome is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from daps_kit.executor import Done, Event, Executor, Failed, Job, Pool, State

__all__ = ["LocalExecutor", "LocalPool"]


class LocalPool(Pool):
    """The worker that is begun already."""

    apart = False

    def __init__(self, job: Job, *said: Event) -> None:
        self.job, self.said = job, list(said)
        self.task: tuple[int, bytes] | None = None

    @property
    def size(self) -> int:
        """One."""
        return 1

    def states(self) -> list[State]:
        """Return that of this process: nobody asks while it is at work."""
        return [State("this process", "waiting")]

    def submit(self, number: int, task: bytes) -> None:
        """Keep the task until its outcome is waited for."""
        self.task = number, task

    def wait(self, seconds: float) -> list[Event]:
        """Compute the task, however long it takes."""
        if self.said or self.task is None:
            said, self.said = self.said, []
            return said
        (number, task), self.task = self.task, None
        try:
            return [Done(number, self.job.here(task, lambda share: None))]
        except MemoryError:
            return [Failed(number, "memory", "not enough memory")]

    def forget(self, number: int) -> None:
        """Nothing is at work while nothing is waited for."""


class LocalExecutor(Executor):
    """See `Local`."""

    @contextlib.contextmanager
    def open(self, job: Job) -> Iterator[Pool]:
        """Return the pool."""
        yield LocalPool(job)
