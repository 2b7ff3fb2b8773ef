"""Workers of dask.distributed: on this machine, behind a scheduler that is there, or in jobs of a queueing system.

The pool chooses the worker of each task and gives it one at a time: so it knows whose task is lost with a worker, and
which worker is silent. dask carries bytes there and back, restarts what has a nanny, and shows it all on its dashboard.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from daps_kit.errors import UserError
from daps_kit.executor import Alive, Done, Event, Executor, Failed, Job, Pool, Said, State, arrived
from daps_kit.reading import optional

from .processes import STARTING, STILLBORN, cores

__all__ = ["QUEUES", "DaskExecutor", "DaskPool", "Option"]

Option = str | bool | int | float | list[str]
"""A setting that dask's cluster classes take."""

QUEUES = {
    "slurm": ("dask_jobqueue", "SLURMCluster"),
    "pbs": ("dask_jobqueue", "PBSCluster"),
    "lsf": ("dask_jobqueue", "LSFCluster"),
    "sge": ("dask_jobqueue", "SGECluster"),
    "kubernetes": ("dask_kubernetes.operator", "KubeCluster"),
}
"""What starts workers elsewhere: module and class of each."""

LOCAL = ("distributed", "LocalCluster")

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from daps_samplers.executors.dask_cluster import main; main(sys.argv[2])"
)

ANSWER = 20.0
"""Seconds that a scheduler has to answer."""

LOOK = 0.5
"""Seconds at least between two looks at which workers there are."""

CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


@dataclass(eq=False)
class _Worker:
    """A worker of the scheduler.

    Attributes:
        address: where dask finds it.
        number: among the workers of its machine, from 0.
        nanny: whether dask can restart it.
        usable: whether it takes tasks.
        begun: whether it has given a sign of life with a task.
        task: the number of what it is at.
        share: how much of that is done.
        heard: when it last gave a sign of life, or was asked for one.
    """

    address: str
    number: int
    nanny: bool
    usable: bool = True
    begun: bool = False
    task: int | None = None
    share: float = 0.0
    heard: float = 0.0

    def state(self) -> State:
        """Return what it is doing."""
        if not self.usable:
            return State(self.address, "silent")
        if self.task is None:
            return State(self.address, "waiting")
        return State(self.address, "at work", self.share) if self.begun else State(self.address, "starting")


class DaskPool(Pool):
    """The workers of a scheduler.

    Args:
        client: of dask, connected.
        job: what workers are begun with.
        silence: seconds after which one that says nothing counts as hanging.
        resources: what a worker must have of each.

    Attributes:
        dashboard: whether the scheduler has one.
    """

    def __init__(self, client: Any, job: Job, silence: float, resources: Mapping[str, float]) -> None:
        self.client, self.job, self.silence, self.resources = client, job, silence, dict(resources)
        self.said: list[Event] = []
        self.workers: dict[str, _Worker] = {}
        self._topic = f"daps-kit-{uuid.uuid4().hex}"
        self._address = client.scheduler.address
        self._version = optional("distributed").__version__
        self._inbox: queue.SimpleQueue[tuple[int | None, str, Any]] = queue.SimpleQueue()
        self._tasks: deque[tuple[int, bytes]] = deque()
        self._idle: dict[_Worker, None] = {}
        self._busy: dict[int, _Worker] = {}
        self._futures: dict[int, Any] = {}
        self._stillborn = 0
        self.dashboard = False
        self._changed, self._looked = True, -LOOK
        client.subscribe_topic(
            self._topic, lambda event: self._inbox.put((event[1]["task"], "alive", event[1]))
        )
        client.subscribe_topic("all", self._heard_of_workers)
        self._look()

    def _heard_of_workers(self, event: tuple[float, Any]) -> None:
        if isinstance(event[1], Mapping) and event[1].get("action") in ("add-worker", "remove-worker"):
            self._inbox.put((None, "workers", None))

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._idle) + len(self._busy)

    def states(self) -> list[State]:
        """Return those of the workers."""
        return [worker.state() for worker in self.workers.values()]

    def submit(self, number: int, task: bytes) -> None:
        """Give the task to a worker that waits, or to the next that does."""
        self._tasks.append((number, task))
        self._feed()

    def _feed(self) -> None:
        while self._tasks and self._idle:
            worker = next(iter(self._idle))
            del self._idle[worker]
            self._give(worker, *self._tasks.popleft())

    def _give(self, worker: _Worker, number: int, task: bytes) -> None:
        from .dask_task import work

        worker.task, worker.heard, worker.share = number, time.monotonic(), 0.0
        self._busy[number] = worker
        job, beat = self.job, min(1.0, self.silence / 4)
        with self._asked():
            future = self._futures[number] = self.client.submit(
                work, self._version, job.function, job.setup, worker.number, task, self._topic, number, beat,
                key=f"{self._topic}-{number}", workers=[worker.address], resources=self.resources, pure=False,
            )  # fmt: skip
            self.client.loop.add_callback(self._follow, number, future)

    async def _follow(self, number: int, future: Any) -> None:
        """Wait, among what dask does, for what becomes of a task."""
        try:
            kind, content = await future
        except CANCELLED:
            kind, content = "died", "it was cancelled"
        except ImportError as error:
            kind = "refused"
            content = f"execution: scheduler and workers need the packages that the run has ({error})"
        except Exception as error:  # noqa: BLE001 (whatever dask says of it)
            kind, content = "died", (str(error).splitlines() or [type(error).__name__])[0]
        self._inbox.put((number, kind, content))

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened."""
        found, self.said = self.said, []
        for message in arrived(self._inbox, 0.0 if found else seconds):
            found += self._heard(*message)
        if self._changed and time.monotonic() - self._looked > LOOK:
            found += self._look()
        for worker in list(self._busy.values()):
            limit = self.silence if worker.begun else max(self.silence, STARTING)
            if time.monotonic() - worker.heard > limit:
                found += self._silent(worker, limit)
        self._require_scheduler()
        self._feed()
        return found

    def _heard(self, number: int | None, kind: str, content: Any) -> list[Event]:
        if number is None:
            self._changed = True
            return []
        worker = self._busy.get(number)
        if worker is None:  # it was lost, or is not wanted
            return []
        worker.heard = time.monotonic()
        if kind != "died":
            worker.begun, self._stillborn = True, 0
        match kind:
            case "alive":
                worker.share = content["share"]
                return [Alive(number, worker.share)]
            case "bug":
                raise RuntimeError(f"worker {worker.address} failed\n{content}")
            case "died":
                self._require_scheduler()
                return self._gone(worker, "died", f"worker {worker.address} was lost ({content})")
        self._release(worker)
        match kind:
            case "done":
                return [Done(number, content)]
            case "memory":
                return [Failed(number, "memory", content)]
            case "refused":
                return [Failed(None, "refused", content)]
        return []

    def _release(self, worker: _Worker) -> None:
        """Take its task from a worker; where it is at work on it, it stops at its next sign of life."""
        number, worker.task = worker.task, None
        if worker.usable:
            self._idle[worker] = None
        if number is not None:
            del self._busy[number]
            with self._asked():
                self._futures.pop(number).cancel(force=True)

    def _gone(self, worker: _Worker, cause: Literal["died", "silent"], text: str) -> list[Event]:
        """Say that a worker is lost to its task."""
        number = worker.task
        self._release(worker)
        if not worker.begun and number is not None:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise UserError(f"execution: workers do not start; {text}")
        return [Said(text), *([Failed(number, cause, text)] if number is not None else [])]

    def _silent(self, worker: _Worker, limit: float) -> list[Event]:
        """Have a worker that hangs restarted; one that has no nanny is left alone from now on."""
        worker.usable = False
        text = f"worker {worker.address} gave no sign of life for {limit:g} s"
        if not worker.nanny:
            return self._gone(worker, "silent", f"{text} and gets no more to do")
        found = self._gone(worker, "silent", f"{text} and was ended")
        self.client.loop.add_callback(self._restart, worker.address)
        return found

    async def _restart(self, address: str) -> None:
        from .dask_task import end

        with contextlib.suppress(Exception):
            await self.client.run(end, workers=[address], nanny=True)

    def _look(self) -> list[Event]:
        """See which workers there are."""
        self._changed, self._looked = False, time.monotonic()
        with self._asked():
            told = self.client.scheduler_info(n_workers=-1)
        self.dashboard, there = "dashboard" in told["services"], told["workers"]
        there = {
            address: told for address, told in there.items()
            if all(told["resources"].get(name, 0) >= amount for name, amount in self.resources.items())
        }  # fmt: skip
        found: list[Event] = []
        for address in self.workers.keys() - there.keys():
            worker = self.workers.pop(address)
            worker.usable = False
            self._idle.pop(worker, None)
            found += self._gone(worker, "died", f"worker {address} was lost")
        taken = {(there[address]["host"], worker.number) for address, worker in self.workers.items()}
        for address, told in there.items():
            if address not in self.workers:
                number = next(n for n in itertools.count() if (told["host"], n) not in taken)
                taken.add((told["host"], number))
                worker = self.workers[address] = _Worker(address, number, bool(told.get("nanny")))
                self._idle[worker] = None
        return found

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Tell of a scheduler that does not answer in words."""
        try:
            yield
        except (OSError, asyncio.TimeoutError, RuntimeError, *CANCELLED) as error:
            self._require_scheduler()
            raise UserError(f"execution: the scheduler {self._address} does not answer: {error}") from error

    def _require_scheduler(self) -> None:
        if self.client.status != "running":
            raise UserError(
                f"execution: the scheduler {self._address} is gone; what is finished is kept, and the same command "
                "goes on once there is a scheduler again"
            )

    def forget(self, number: int) -> None:
        """Let the worker drop what it is at."""
        self._tasks = deque(item for item in self._tasks if item[0] != number)
        if number in self._busy:
            self._release(self._busy[number])

    def close(self) -> None:
        """Leave the workers, who drop what they are at."""
        with contextlib.suppress(Exception):
            for topic in (self._topic, "all"):
                self.client.unsubscribe_topic(topic)
            self.client.cancel(list(self._futures.values()), force=True)


class DaskExecutor(Executor):
    """See `Dask`.

    Raises:
        UserError: what it needs is not installed.
    """

    def __init__(
        self,
        workers: int | Literal["auto"],
        scheduler: str | None,
        cluster: str,
        options: Mapping[str, Option],
        resources: Mapping[str, float],
        silence: float,
        shared_folder: bool = False,
    ) -> None:
        self.workers, self.scheduler, self.cluster = workers, scheduler, cluster
        self.shared_folder = shared_folder
        self.options, self.resources, self.silence = dict(options), dict(resources), silence
        try:
            self.distributed = optional("distributed", "cluster")
            optional(QUEUES.get(cluster, LOCAL)[0], "cluster")
        except UserError as error:
            raise UserError(f"execution: {error}") from None

    @contextlib.contextmanager
    def open(self, job: Job) -> Iterator[Pool]:
        """Connect to the scheduler, or start one with its workers."""
        resources = self.resources
        if not resources and self.scheduler is None and self.cluster == "local" and job.devices:
            resources = {"GPU": 1.0}
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet())
            # A task holds measurements, and so may be large.
            large = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
            stack.enter_context(optional("dask.config").set(large))
            client = self._client(self.scheduler or stack.enter_context(self._started(job, resources)))
            stack.callback(_close, client)
            pool = DaskPool(client, job, self.silence, resources)
            stack.callback(pool.close)
            if pool.dashboard:
                pool.said.append(Said(f"dashboard: {client.dashboard_link}"))
            yield pool

    def _client(self, address: str) -> Any:
        try:
            return self.distributed.Client(address, timeout=ANSWER, set_as_default=False, name="daps-kit")
        except (OSError, asyncio.TimeoutError, ValueError, ImportError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"execution.scheduler: nobody answers at {address}: {reason}") from None

    @contextlib.contextmanager
    def _started(self, job: Job, resources: Mapping[str, float]) -> Iterator[str]:
        """Start a scheduler with its workers, in another process that ends with this one, and return its address."""
        count = (job.devices or cores()) if self.workers == "auto" else self.workers
        keywords: dict[str, Any] = dict(self.options)
        if self.cluster == "local":
            keywords = {
                "n_workers": count, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0",
                "memory_limit": 0, "resources": dict(resources),
            } | keywords  # fmt: skip
        module, name = QUEUES.get(self.cluster, LOCAL)
        wanted = {
            "module": module, "class": name, "keywords": keywords, "scale": 0 if self.cluster == "local" else count
        }  # fmt: skip
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            answer = json.loads(process.stdout.readline() or '{"error": "it ended at once"}')
            if "error" in answer:
                lines = answer["error"].splitlines()
                raise UserError(f"execution: {self.cluster} does not start: {lines[0]}")
            yield answer["address"]
        finally:
            process.stdin.close()
            process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def _close(client: Any) -> None:
    """End a client, whatever has become of its scheduler."""
    with contextlib.suppress(Exception):
        client.close(timeout=2.0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep dask's log to itself: what a person is to know, the pool says."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="distributed")
        yield
    log.setLevel(
        before
    )  # not where the run has failed: of a connection that was lost dask tells for a while after
