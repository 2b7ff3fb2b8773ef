"""A job that needs no torch: its tasks are words that say what becomes of their worker."""

from __future__ import annotations

import os
import signal
import sys
import time

from daps_kit.errors import UserError
from daps_kit.executor import Alive, Compute, Event, Job, Pool, Tell

FUNCTION = "tests.samplers.executors.toy_job:begin"


def begin(setup: bytes, number: int) -> Compute:
    """Begin a worker: `setup` may be `refuse`, `die`, `hang` or the speed that a trial finds."""
    if setup == b"refuse":
        raise UserError("other versions")
    if setup == b"die":
        print("cannot start", file=sys.stderr, flush=True)
        os._exit(3)
    if setup == b"hang":
        time.sleep(60)

    def compute(task: bytes, tell: Tell) -> bytes:
        match task.split():
            case [b"trial"]:
                return setup
            case [b"die"]:
                print("my last words", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case [b"hang"]:
                time.sleep(60)
            case [b"sleep", seconds]:
                time.sleep(float(seconds))
            case [b"memory"]:
                raise MemoryError
            case [b"bug"]:
                raise ValueError("what is this")
            case [b"beat", count]:
                for step in range(int(count)):
                    time.sleep(0.1)
                    tell(step / int(count))
            case [b"print", word]:
                print(word.decode())
                os.write(1, word)
        return b"%d did %d bytes: %s" % (number, len(task), task[:20])

    return compute


def job(setup: bytes = b"1.0", here: float = 2.0) -> Job:
    """Return the job; a trial in this process is as fast as `here`."""
    return Job(FUNCTION, setup, 0, b"trial", lambda task, tell: str(here).encode())


def events(pool: Pool, count: int, shares: list[float] | None = None) -> list[Event]:
    """Wait for so many events; the signs of life between them go to `shares`."""
    found: list[Event] = []
    limit = time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < limit, found
        for event in pool.wait(0.2):
            if not isinstance(event, Alive):
                found.append(event)
            elif shares is not None:
                shares.append(event.share)
    return found
