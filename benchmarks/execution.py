"""What it costs to compute a run by many workers, and what it brings.

    python -m benchmarks execution [PART ...] [--seconds 60]     PART: threads, scaling, memory, workers; or all

- *threads*: 10,000 items of 10 ms through 32 workers that sleep, threads of this process: throughput as a share of the
  ideal, and how much memory the second half of the items takes; the same on the clock of the simulation, below.
- *scaling*: 1 to 1,000 workers with 20 items a minute each, simulated: what the engine does for an item (hand it out,
  read its result, write its file) is done and its processor time counted, the three seconds of a worker pass on a
  clock of the simulation. So it does not depend on what else the machine does.
- *memory*: what a worker of `processes`, and one of dask, takes beside one that is begun in a bare interpreter.
- *workers*: two workers against one process of one thread, and two workers of dask started by hand on this machine with
  a scheduler, in turn, with the network that ships, from the first result of each worker to its last before the time
  is up. The ratio of the medians counts; nothing else must be at work. Two processes that compute the same by
  themselves tell what the machine has to give, and the processor time of the run what the engine takes.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch

from daps_kit.executor import Compute, Done, Event, Job, Pool, State, arrived, begin
from daps_kit.recipe import load_recipe
from daps_kit.runs import dispatch as module
from daps_kit.runs.dispatch import Work, dispatch
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.worker import BEGIN, Batch, Task, setup_of
from daps_samplers.executors import Dask, Processes
from daps_samplers.executors.local import LocalPool

SHAPE = (3, 64, 64)
SLEEP, THREADS, ITEMS = 0.01, 32, 10_000
EACH = 3.0  # seconds of an item in the simulation: 20 a minute
PROMISED = {"threads": 0.8, "cost": 0.02, "memory": 5.0, "processes": 1.9, "dask": 1.8}


class Items(Work[int]):
    """So many items, each with a measurement, and a result that is read and, where there is a folder, written.

    Args:
        count: of items.
        folder: where results go.
        batch: how many samples an item has.
        until: when the last is handed out, if not all are by then.

    Attributes:
        ends: when each had its result.
    """

    def __init__(
        self, count: int, folder: RunFolder | None = None, batch: int = 1, until: float = float("inf")
    ) -> None:
        self.count, self.folder, self.batch, self.until = count, folder, batch, until
        self.ends: list[float] = []
        self.given = self.finished = 0
        self.y = torch.zeros(SHAPE)
        self.memory: list[float] = []

    def next(self) -> int | None:
        """Return the next number."""
        if self.given == self.count or time.monotonic() > self.until:
            return None
        self.given += 1
        return self.given

    def pack(self, piece: int) -> bytes:
        """Return the task."""
        name = f"{piece:06}"
        return Task((name,) * self.batch, tuple(range(self.batch)), SHAPE, {name: self.y}).pack()

    def done(self, piece: int, result: bytes) -> None:
        """Read the result, and write it."""
        for run, sample in enumerate(Batch.unpack(result).samples):
            if self.folder is not None:
                self.folder.write_sample(f"{piece:06}", run, sample)
        self.finished += 1
        self.ends.append(time.monotonic())
        if self.finished % max(1, self.count // 10) == 0:
            self.memory.append(resident(os.getpid()))

    def lost(self, piece: int, text: str) -> None:
        """Fail."""
        raise RuntimeError(text)

    def take_back(self, piece: int) -> bool:
        """Return that it cannot be smaller."""
        return False

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr)

    def look(self, at_work: list[tuple[int, float]]) -> None:
        """See nothing."""


def resident(pid: int) -> float:
    """Return what a process holds for itself, in MB."""
    return int(re.findall(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1000


def answer() -> bytes:
    """Return the result of a sample."""
    return Batch([Sample(torch.zeros(SHAPE), None)], [], [], [], EACH).pack()


class Threads(Pool):
    """Workers that are threads of this process and sleep."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds, self.result = count, seconds, answer()
        self.inbox: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self.tasks: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while (number := self.tasks.get()) is not None:
            time.sleep(self.seconds)
            self.inbox.put(Done(number, self.result))

    @property
    def size(self) -> int:
        """How many there are."""
        return self.count

    def states(self) -> list[State]:
        """Return that nobody asks."""
        return []

    def submit(self, number: int, task: bytes) -> None:
        """Give out a task."""
        self.tasks.put(number)

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened."""
        return list(arrived(self.inbox, seconds))

    def forget(self, number: int) -> None:
        """Do nothing."""


class Simulated(Threads):
    """Workers on a clock of their own, which the processor time of this process moves on as well."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds, self.result = count, seconds, answer()
        self.now, self.spent = 0.0, time.process_time()
        self.ends: list[tuple[float, int]] = []

    def clock(self) -> float:
        """Return the seconds that have passed."""
        spent = time.process_time()
        self.now += spent - self.spent
        self.spent = spent
        return self.now

    def submit(self, number: int, task: bytes) -> None:
        """Give out a task."""
        heapq.heappush(self.ends, (self.clock() + self.seconds, number))

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened."""
        self.now = max(self.clock(), min(self.now + seconds, self.ends[0][0]))
        found: list[Event] = []
        while self.ends and self.ends[0][0] <= self.now:
            found.append(Done(heapq.heappop(self.ends)[1], self.result))
        return found


def threads() -> bool:
    """Measure the engine with many fast workers."""
    pool, work = Threads(THREADS, SLEEP), Items(ITEMS)
    begun, spent = time.perf_counter(), time.process_time()
    dispatch(pool, work)
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    ideal = ITEMS * SLEEP / THREADS
    grown = work.memory[-1] - work.memory[4]
    simulated, _ = simulate(THREADS, SLEEP, Items(ITEMS))
    print(
        f"{ITEMS} items of {1000 * SLEEP:g} ms, {THREADS} threads: {ideal / seconds:.0%} of the ideal throughput, "
        f"{ideal / simulated:.0%} in a simulation; {1e6 * spent / ITEMS:.0f} us of processor time an item; the second "
        f"half took {grown:+.1f} MB"
    )
    return ideal / seconds >= PROMISED["threads"] and grown < 5.0


def simulate(count: int, each: float, work: Items) -> tuple[float, float]:
    """Return how long a simulation of so many workers takes on its clock, and the processor time of the engine."""
    pool = Simulated(count, each)
    before, module.time = module.time, SimpleNamespace(monotonic=pool.clock)  # type: ignore[assignment]
    spent = time.process_time()
    try:
        dispatch(pool, work)
    finally:
        module.time = before
    return pool.now, time.process_time() - spent


def scaling() -> bool:
    """Simulate ever more workers."""
    print("| workers | items a minute | of the ideal | engine, ms an item | engine, of a worker's time |")
    print("|---|---|---|---|---|")
    kept = True
    for count in (1, 2, 10, 100, 300, 1000):
        items = max(100, 5 * count)
        with tempfile.TemporaryDirectory() as name:
            seconds, spent = simulate(count, EACH, Items(items, RunFolder(Path(name))))
        ideal = -(-items // count) * EACH
        print(
            f"| {count} | {60 * items / seconds:.0f} | {ideal / seconds:.1%} | {1000 * spent / items:.2f} | "
            f"{spent / items / EACH:.2%} |",
            flush=True,
        )
        kept &= spent / items / EACH <= PROMISED["cost"]
    return kept


def real_job(batch: int) -> tuple[Job, Compute]:
    """Return the job of the first task of the quick start, and a worker of it in this process, with one thread."""
    recipe = load_recipe("quickstart")[0]
    device = torch.device("cpu")
    torch.set_num_threads(1)
    setup = setup_of(recipe, recipe.prior.build(shape=None, device=device), device)
    here = begin(BEGIN, setup, 0)
    return Job(BEGIN, setup, 0, b"", here), here


def rate(pool: Pool, seconds: float) -> tuple[float, float]:
    """Return how many items a pool does a second while all workers are busy, and the time of this process on one.

    Counted are whole rounds of the workers, after the first.
    """
    work, spent = Items(10**9, batch=2, until=time.monotonic() + seconds), time.process_time()
    dispatch(pool, work)
    spent = time.process_time() - spent
    while any(state.doing == "at work" for state in pool.states()):  # on what was given out twice
        pool.wait(0.1)
    rounds = sum(end <= work.until for end in work.ends) // pool.size
    if rounds < 2:
        raise SystemExit(f"{seconds:g} s are too short for two items of a worker; give more --seconds")
    first, last = work.ends[pool.size - 1], work.ends[rounds * pool.size - 1]
    return (rounds - 1) * pool.size / (last - first), spent / work.finished


@contextlib.contextmanager
def by_hand() -> Iterator[str]:
    """Start a scheduler and two workers of dask, and return the address."""
    with contextlib.ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[str]:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:]]
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        assert scheduler.stderr is not None
        address = next(found[0] for line in scheduler.stderr if (found := re.search(r"tcp://\S+:\d+", line)))
        threading.Thread(target=scheduler.stderr.read, daemon=True).start()
        for _ in range(2):
            worker = start("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
            assert worker.stderr is not None
            threading.Thread(target=worker.stderr.read, daemon=True).start()
        yield address


def all_there(pool: Pool, count: int) -> Pool:
    """Return a pool when it has so many workers."""
    while pool.size < count:
        pool.wait(0.2)
    return pool


@contextlib.contextmanager
def two_of_dask(job: Job) -> Iterator[Pool]:
    """Open a pool of a scheduler and two workers that were started by hand."""
    with by_hand() as address, Dask(scheduler=address).build().open(job) as pool:
        yield all_there(pool, 2)


TWO: dict[str, Callable[[Job], contextlib.AbstractContextManager[Pool]]] = {
    "processes": lambda job: Processes(workers=2).build().open(job),
    "dask": two_of_dask,
}
"""One after the other: the programs of dask are at work even when they have nothing to do."""


def workers(seconds: float) -> bool:
    """Compare two workers with one process, in turn."""
    job, _ = real_job(2)
    with contextlib.ExitStack() as stack:
        by_themselves = [stack.enter_context(bare(job.setup, Items(1, batch=2).pack(1))) for _ in range(2)]
        for each in by_themselves:
            assert each.stdout is not None
            each.stdout.readline()  # it is begun

        def machine() -> tuple[float, float]:
            for each in by_themselves:
                assert each.stdin is not None
                each.stdin.write(f"{seconds / 3}\n")
                each.stdin.flush()
            return sum(float(each.stdout.readline()) for each in by_themselves if each.stdout), 0.0

        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "one process": lambda: rate(LocalPool(job), seconds / 3),
            "two by themselves": machine,
        }
        dispatch(LocalPool(job), Items(2))  # it is begun then
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ways, *TWO)}
        for executor, open_pool in TWO.items():
            with open_pool(job) as pool:
                dispatch(pool, Items(4))
                for _ in range(3):
                    for name, way in ways.items():
                        found[name].append(way())
                    found[executor].append(rate(pool, seconds / 3))
    middle = {
        name: [statistics.median(each) for each in zip(*rates, strict=True)] for name, rates in found.items()
    }
    ratio = {name: rate / middle["one process"][0] for name, (rate, _) in middle.items()}
    print(
        "| who computes | items a minute | ratio | the run's own processor time, ms an item |\n|---|---|---|---|"
    )
    for name, (items, spent) in middle.items():
        own = f"{1000 * spent:.1f}" if name in TWO else ""
        print(f"| {name} | {60 * items:.1f} | {ratio[name]:.2f} | {own} |")
    return all(ratio[name] >= PROMISED[name] for name in TWO)


BARE = """
import os, sys, time
from pathlib import Path
sys.path[:] = {path}
import torch
from daps_kit.executor import begin
from benchmarks.execution import resident
compute = begin({function!r}, Path({setup!r}).read_bytes(), 0)
task = Path({task!r}).read_bytes()
compute(task, lambda share: None)
print(resident(os.getpid()), flush=True)
for seconds in map(float, sys.stdin):
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        compute(task, lambda share: None)
        done += 1
    print(done / (time.perf_counter() - begun), flush=True)
"""


@contextlib.contextmanager
def bare(setup: bytes, task: bytes) -> Iterator[subprocess.Popen[str]]:
    """Start a bare worker: it says what it holds, in MB, and to a line of seconds how many items a second it did."""
    with tempfile.TemporaryDirectory() as name:
        files = {"setup": Path(name, "setup"), "task": Path(name, "task")}
        files["setup"].write_bytes(setup)
        files["task"].write_bytes(task)
        program = BARE.format(
            path=sys.path, function=BEGIN, **{key: str(file) for key, file in files.items()}
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def memory() -> bool:
    """Measure what a worker takes."""
    job, _ = real_job(1)
    work = Items(1)
    with bare(job.setup, work.pack(1)) as process:
        assert process.stdout is not None
        held = float(process.stdout.readline())
    with Processes(workers=1).build().open(job) as pool:
        dispatch(pool, work)
        ours = resident(pool.workers[0].process.pid) - held  # type: ignore[attr-defined]
    print(f"a worker of `processes` takes {ours:+.1f} MB beside torch and the prior ({held:.0f} MB)")
    with two_of_dask(job) as pool:
        dispatch(pool, Items(2))
        pids = pool.client.run(os.getpid)  # type: ignore[attr-defined]
        most = max(resident(pid) for pid in pids.values()) - held
    print(f"a worker of dask takes {most:+.1f} MB beside them, with dask itself")
    return ours <= PROMISED["memory"]


def main(arguments: list[str]) -> int:
    """Measure, and return 1 where less is reached than is promised."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks execution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ("threads", "scaling", "memory", "workers")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each way of computing, in `workers`")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(names):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts = {
        "threads": threads,
        "scaling": scaling,
        "memory": memory,
        "workers": lambda: workers(options.seconds),
    }
    kept = [parts[name]() for name in options.parts or names]
    return 0 if all(kept) else 1
