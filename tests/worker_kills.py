"""Kills of those who compute a run together: is nothing lost, and is every file that of one process?

    python -m tests.worker_kills --processes 100 --dask 100 [--shared] --seed 0

A run with two workers is at work; at random moments one of them is ended by SIGKILL, or the run itself, or the scheduler
that stands between them, and is begun again. With `processes` the run starts its workers; with `dask`, scheduler and
workers are started here, as by hand. With `--shared` the workers write the samples. In the end every file is compared with that of one process, byte for byte, but
for those that say who computed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from daps_kit.tables import markdown_table
from tests.kills import RUN, RUNS, contents, differences, ended, options, start, verdict, workplace

SAYS_WHO = {"environment.json", "environment.js", "recipe.yaml", "report.html"}
"""Files that say who computes."""

GONE = ("the same command goes on once there is a scheduler again", "execution.scheduler: nobody answers at")
"""What a run says, in the line that it ends with, whose scheduler was killed: while it was at work, or before."""

ATTEMPTS = 5
"""How often a run may be begun after the last kill: a batch whose workers were killed three times is given up."""


@dataclass
class Loss:
    """What came of the kills.

    Attributes:
        kills: how many, by who was killed.
        ends: how often a run came to its end.
        again: how often it had to be begun once more by then, because it had given up something.
        wrong: files that were others in the end, and runs that ended as they should not.
    """

    kills: Counter[str] = field(default_factory=Counter)
    ends: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)


class Fleet:
    """Those who compute a run, but for the run itself."""

    victims: tuple[str, ...] = ("client", "worker")
    changes: tuple[str, ...] = ("execution.use=processes", "execution.workers=2")

    def ready(self) -> None:
        """Start who is not there."""

    def pid(self, who: str, client: int, draw: random.Random) -> int | None:
        """Return a victim, if there is any."""
        children = Path(f"/proc/{client}/task/{client}/children").read_text().split()
        return int(draw.choice(children)) if children else None

    def killed(self, pid: int) -> None:
        """Hear that one is."""

    def end(self) -> None:
        """End all."""


class DaskFleet(Fleet):
    """A scheduler and two workers, forks of this process.

    Args:
        folder: where they write.
    """

    victims = ("client", "worker", "scheduler")

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.changes = ("execution.use=dask", f"execution.scheduler=tcp://127.0.0.1:{self.port}")
        self.scheduler = 0
        self.workers: list[int] = []

    def ready(self) -> None:
        """Start who is not there; workers end with their scheduler."""
        if not self.scheduler:
            for pid in self.workers:
                _kill(pid)
            self.workers.clear()
            self.scheduler = start(lambda: asyncio.run(self._schedule()), self.folder / "scheduler.txt")
            while not _answers(self.port):
                time.sleep(0.02)
        while len(self.workers) < 2:
            self.workers.append(start(lambda: asyncio.run(self._work()), self.folder / "worker.txt"))

    async def _schedule(self) -> None:
        from distributed import Scheduler

        logging.disable()
        async with Scheduler(host="127.0.0.1", port=self.port, dashboard=False) as scheduler:
            await scheduler.finished()

    async def _work(self) -> None:
        from distributed import Worker

        logging.disable()
        address = f"tcp://127.0.0.1:{self.port}"
        async with Worker(address, nthreads=1, local_directory=str(self.folder / "scratch")) as worker:
            await worker.finished()

    def pid(self, who: str, client: int, draw: random.Random) -> int | None:
        """Return a victim."""
        return self.scheduler if who == "scheduler" else draw.choice(self.workers)

    def killed(self, pid: int) -> None:
        """Hear that one is."""
        os.waitpid(pid, 0)
        if pid == self.scheduler:
            self.scheduler = 0
        else:
            self.workers.remove(pid)

    def end(self) -> None:
        """End all."""
        for pid in (self.scheduler, *self.workers):
            if pid:
                _kill(pid)


def _answers(port: int) -> bool:
    with socket.socket() as there:
        return there.connect_ex(("127.0.0.1", port)) == 0


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _over(pid: int, seconds: float) -> bool:
    """Wait so long; return whether the process ended, which is left to be waited for."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)
    return False


def samples(out: Path) -> dict[str, object]:
    """Return what must not depend on who computed it, file by file."""
    return {file: content for file, content in contents(out).items() if Path(file).name not in SAYS_WHO}


def kill_workers(
    run: Callable[[tuple[str, ...]], Any], fleet: Fleet, out: Path, kills: int, seed: int
) -> Loss:
    """Kill so many times in all, and compare what comes of it in the end.

    Args:
        run: runs a recipe with some overrides.
        fleet: who computes it.
        out: the folder that it writes.
        kills: how many.
        seed: of the moments.
    """
    draw, loss, errors = random.Random(seed), Loss(), out.with_name("errors.txt")
    run(())
    expected = samples(out)
    shutil.rmtree(out)

    def begin() -> int:
        fleet.ready()
        errors.unlink(missing_ok=True)
        return start(lambda: run(fleet.changes), errors)

    def said() -> str:
        return errors.read_text() if errors.exists() else "it took too long"

    begun = time.monotonic()
    if not ended(begin(), 600):
        raise RuntimeError(f"it fails unbroken: {said()}")
    seconds = time.monotonic() - begun
    loss.wrong += differences(samples(out), expected)
    shutil.rmtree(out)
    while kills:
        client = begin()
        for _ in range(min(kills, draw.randint(1, 8))):
            if _over(client, draw.uniform(0, seconds)):
                break
            who = draw.choice(fleet.victims)
            pid = client if who == "client" else fleet.pid(who, client, draw)
            if pid is None:  # there is no worker yet
                who, pid = "client", client
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            loss.kills[who] += 1
            kills -= 1
            if who == "client":
                os.waitpid(client, 0)
            else:
                fleet.killed(pid)
            if who == "scheduler" and not ended(client, 60) and not any(line in said() for line in GONE):
                loss.wrong.append(f"the scheduler was killed: {said()}")
            if who == "worker":
                fleet.ready()
            else:
                client = begin()
        for _ in range(ATTEMPTS):
            finished = ended(client, 600)
            if finished and not (wrong := differences(samples(out), expected)):
                break
            if not finished:
                wrong = [said()]
            loss.again += 1
            client = begin()
        else:
            loss.wrong += wrong
            ended(client, 0)
        loss.ends += 1
        shutil.rmtree(out, ignore_errors=True)
    return loss


def table(losses: Mapping[str, Loss]) -> str:
    """Return what came of the kills as a table."""
    columns = [
        "executor", "kills of workers", "of the scheduler", "of the run", "runs that ended",
        "begun again for what was given up", "differences",
    ]  # fmt: skip
    rows = []
    for name, loss in losses.items():
        kills = [loss.kills[who] for who in ("worker", "scheduler", "client")]
        rows.append([name, *map(str, (*kills, loss.ends, loss.again, len(loss.wrong)))])
    return "\n".join(markdown_table(columns, rows, left=[0]))


def main() -> int:
    """Kill as the command line says, and print the table; 1 where anything differs."""
    kinds = {"processes": "with worker processes", "dask": "with workers of dask"}
    parser = options(__doc__, kinds)
    parser.add_argument("--shared", action="store_true", help="workers write the samples")
    given = parser.parse_args()
    import torch

    import daps_kit

    torch.set_num_threads(1)  # a fork has no other
    losses: dict[str, Loss] = {}
    for name in kinds:
        kills = getattr(given, name)
        if not kills:
            continue
        with workplace() as folder:
            recipe, out = folder / "recipe.yaml", folder / "out"
            content = RUNS["images, inpainting, trajectory"] | {"output": str(out)}
            recipe.write_text(yaml.safe_dump(RUN | content))
            fleet = Fleet() if name == "processes" else DaskFleet(folder)
            if given.shared:
                fleet.changes += ("execution.shared_folder=true",)
                name += ", shared folder"
            try:
                losses[name] = kill_workers(
                    lambda changes, recipe=recipe: daps_kit.run(recipe, changes, quiet=True),  # type: ignore[misc]
                    fleet, out, kills, given.seed,
                )  # fmt: skip
            finally:
                fleet.end()
            print(table(losses), flush=True)
    return verdict(loss.wrong for loss in losses.values())


if __name__ == "__main__":
    raise SystemExit(main())
