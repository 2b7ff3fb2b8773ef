"""Several processes of this machine. Each is begun once and kept; one that ends or is silent is replaced.

A worker is `child` in a fresh interpreter, which hears over its standard input and answers over its standard output. So
whoever is killed closes a pipe: a run learns at once that a worker is gone, and workers end with the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Literal

from daps_kit.errors import UserError
from daps_kit.executor import Alive, Done, Event, Executor, Failed, Job, Pool, Said, State, arrived

from .child import frame, read_frame
from .local import LocalPool

__all__ = ["STARTING", "STILLBORN", "ProcessExecutor", "ProcessPool", "cores"]

STILLBORN = 3
"""So many workers in a row that end before they are ready end the run."""

STARTING = 300.0
"""Seconds that a worker has to start in any case: it imports torch and builds the prior, perhaps on a busy machine."""

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from daps_samplers.executors.child import main; main()"
)

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class _Worker:
    """A worker process, with a thread for each of its pipes.

    Attributes:
        ready: whether it was begun.
        task: the number of what it is at.
        share: how much of that is done.
        heard: when it last gave a sign of life, or was asked for one.
    """

    def __init__(self, number: int, job: Job, inbox: queue.SimpleQueue[tuple[_Worker, bytes, bytes]]) -> None:
        self.number = number
        self.ready, self.heard, self.share = False, time.monotonic(), 0.0
        self.task: int | None = None
        self._last_words: deque[str] = deque(maxlen=20)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        path = [os.path.abspath(entry) for entry in sys.path]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | ONE_THREAD,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._listener = threading.Thread(
            target=self._listen, args=(self.process.stdout, self.process.stderr, inbox), daemon=True
        )
        self._listener.start()
        threading.Thread(target=self._talk, args=(self.process.stdin,), daemon=True).start()
        head = json.dumps({"function": job.function, "number": number}).encode()
        self._outbox.put(frame(b"J", head + b"\n" + job.setup))

    def give(self, number: int, task: bytes) -> None:
        """Give it a task."""
        self.task, self.heard, self.share = number, time.monotonic(), 0.0
        self._outbox.put(frame(b"T", task))

    def state(self) -> State:
        """Return what it is doing."""
        if not self.ready:
            return State(str(self.number), "starting")
        return (
            State(str(self.number), "waiting")
            if self.task is None
            else State(str(self.number), "at work", self.share)
        )

    def kill(self) -> None:
        """End it, whatever it is at."""
        self.process.kill()
        self.process.wait()
        self._outbox.put(None)

    def end(self) -> str:
        """Return how it ended, in words, and what it printed last."""
        code = self.process.wait()
        self._outbox.put(None)
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            how = f"was ended by {name}" + (", as where memory runs out" if name == "SIGKILL" else "")
        else:
            how = f"ended with {code}"
        return f"worker {self.number} {how}{f': {self._last_words[-1]}' if self._last_words else ''}"

    def _talk(self, pipe: BinaryIO) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (message := self._outbox.get()) is not None:
                pipe.write(message)
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    def _listen(
        self, pipe: BinaryIO, errors: BinaryIO, inbox: queue.SimpleQueue[tuple[_Worker, bytes, bytes]]
    ) -> None:
        hearer = threading.Thread(target=self._hear, args=(errors,), daemon=True)
        hearer.start()
        while (message := read_frame(pipe)) is not None:
            inbox.put((self, *message))
        hearer.join(1.0)
        pipe.close()
        inbox.put((self, b"", b""))

    def _hear(self, errors: BinaryIO) -> None:
        with errors:
            for line in errors:
                if text := line.decode(errors="replace").strip():
                    self._last_words.append(text[:500])


class ProcessPool(Pool):
    """Worker processes.

    Args:
        job: what they are begun with.
        workers: how many.
        silence: seconds after which one that says nothing is ended.
    """

    def __init__(self, job: Job, workers: int, silence: float) -> None:
        self.job, self.silence = job, silence
        self.said: list[Event] = []
        self._inbox: queue.SimpleQueue[tuple[_Worker, bytes, bytes]] = queue.SimpleQueue()
        self._tasks: deque[tuple[int, bytes]] = deque()
        self._stillborn = 0
        self.workers = [_Worker(number, job, self._inbox) for number in range(workers)]

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self.workers)

    def states(self) -> list[State]:
        """Return those of the workers."""
        return [worker.state() for worker in self.workers]

    def submit(self, number: int, task: bytes) -> None:
        """Give the task to a worker that waits, or to the next that is ready."""
        self._tasks.append((number, task))
        self._feed()

    def _feed(self) -> None:
        for worker in self.workers:
            if self._tasks and worker.ready and worker.task is None:
                worker.give(*self._tasks.popleft())

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened."""
        found, self.said = self.said, []
        for message in arrived(self._inbox, 0.0 if found else seconds):
            found += self._heard(*message)
        for worker in self.workers:
            limit = self.silence if worker.ready else max(self.silence, STARTING)
            waited_for = worker.task is not None or not worker.ready
            if waited_for and time.monotonic() - worker.heard > limit:
                worker.kill()
                text = f"worker {worker.number} gave no sign of life for {limit:g} s and was ended"
                found += self._gone(worker, "silent", text)
        self._feed()
        return found

    def _heard(self, worker: _Worker, kind: bytes, content: bytes) -> list[Event]:
        if worker not in self.workers:  # it was replaced
            return []
        worker.heard = time.monotonic()
        number = worker.task
        match kind:
            case b"R":
                worker.ready, self._stillborn = True, 0
            case b"A" if number is not None:
                worker.share = json.loads(content)
                return [Alive(number, worker.share)]
            case b"D" if number is not None:
                worker.task = None
                return [Done(number, content)]
            case b"F":
                return self._failed(worker, *json.loads(content))
            case b"":
                return self._gone(worker, "died", worker.end())
        return []

    def _failed(self, worker: _Worker, cause: Literal["memory", "refused", "bug"], text: str) -> list[Event]:
        if cause == "bug":
            raise RuntimeError(f"worker {worker.number} failed\n{text}")
        number, worker.task = worker.task, None
        return [Failed(number if cause == "memory" else None, cause, text)]

    def _gone(self, worker: _Worker, cause: Literal["died", "silent"], text: str) -> list[Event]:
        """Start another worker in place of one that is gone."""
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise UserError(f"execution: workers do not start; {text}")
        self.workers[worker.number] = _Worker(worker.number, self.job, self._inbox)
        said: list[Event] = [Said(f"{text}; another takes its place")]
        return said + ([Failed(worker.task, cause, text)] if worker.task is not None else [])

    def forget(self, number: int) -> None:
        """Let the worker end what it is at; its outcome is told all the same."""

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.kill()

    def tried(self) -> float:
        """Return how much all workers do a second, together, each with the job's trial."""
        for number in range(self.size):
            self.submit(-1 - number, self.job.trial)
        # No worker has a second trial before all are ready: they are to be tried side by side.
        held, self._tasks = self._tasks, deque()
        while not all(worker.ready for worker in self.workers):
            self.said += self.wait(0.5)
        self._tasks = held
        self._feed()
        rates: list[float] = []
        while len(rates) < self.size:
            for event in self.wait(0.5):
                match event:
                    case Done(_, result):
                        rates.append(float(result))
                    case Failed(task, _, text):
                        if task is None:
                            raise UserError(text)
                        rates.append(0.0)
                    case Said():
                        self.said.append(event)
        return sum(rates)


class ProcessExecutor(Executor):
    """See `Processes`."""

    def __init__(self, workers: int | Literal["auto"], silence: float, shared_folder: bool = False) -> None:
        self.workers, self.silence, self.shared_folder = workers, silence, shared_folder

    @contextlib.contextmanager
    def open(self, job: Job) -> Iterator[Pool]:
        """Start the workers, and end them."""
        count = (job.devices or cores()) if self.workers == "auto" else self.workers
        if self.workers == "auto" and count == 1:
            yield LocalPool(job)
            return
        alone = (
            0.0 if self.workers != "auto" or job.devices else float(job.here(job.trial, lambda share: None))
        )
        pool = ProcessPool(job, count, self.silence)
        try:
            if alone:
                together = pool.tried()
                said = f"tried: {count} processes of one thread are {together / alone:.2f} times as fast as one process"
                if together <= alone:
                    pool.close()
                    yield LocalPool(job, Said(f"{said}, which is taken"))
                    return
                pool.said.append(Said(f"{said}; they are taken"))
            yield pool
        finally:
            pool.close()


def cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
