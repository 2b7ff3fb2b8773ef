"""Do many things with bad input in processes of their own, and see what comes of each.

A case passes where it succeeds, or ends in a `UserError` of printable lines. It is at fault where anything else is raised,
where it takes more seconds of the processor than SECONDS or more memory than BYTES, where its process dies, or where a file appears or
changes outside the folder that it may write to.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import select
import shutil
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from daps_kit.errors import UserError

__all__ = ["BYTES", "CANARY", "SECONDS", "Case", "Fault", "Tally", "faulty", "watch"]

SECONDS = 10.0
BYTES = 1 << 30
WAIT = 60.0
"""Seconds of the clock in which a case may do nothing at all; a busy machine is slow."""
CANARY = "canary"
"""The file that programs in bad input write."""
ROOM = 4 << 30
"""Address space that a process may have beyond what it begins with, so that a fault does not take the machine down."""


class Fault(Exception):
    """What a case itself finds wrong."""


@dataclass(frozen=True)
class Case:
    """Something to do with one bad input.

    Attributes:
        kind: what is counted together.
        name: which one it is.
        do: is called in an empty working folder, which it is given, with random numbers of its own; returns a word for
            what came of it.
    """

    kind: str
    name: str
    do: Callable[[Path, random.Random], str]


@dataclass
class Tally:
    """What came of the cases of one kind.

    Attributes:
        cases: how many.
        outcomes: how many of each, by a word.
        seconds: that the slowest took.
        megabytes: that the largest took.
        faults: what was at fault, by its case.
    """

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    megabytes: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)


def watch(
    cases: Sequence[Case], folder: Path, seed: int = 0, tell: Callable[[str], None] | None = None
) -> dict[str, Tally]:
    """Do all cases and return what came of them, by kind.

    Args:
        cases: in their order.
        folder: an empty one; each case has one below it, which is removed unless it is at fault.
        seed: of the random numbers of all cases.
        tell: is told each fault.
    """
    tallies = {case.kind: Tally() for case in cases}
    at = 0
    while at < len(cases):
        pid, pipe = _start(cases[at:], folder, seed)
        with os.fdopen(pipe) as lines:
            while at < len(cases):
                readable = _wait(pid, lines)
                line = lines.readline() if readable else ""
                case, tally = cases[at], tallies[cases[at].kind]
                if line:
                    outcome, fault, seconds, peak = json.loads(line)
                elif readable:
                    outcome, fault, seconds, peak = "died", "the process died", 0.0, 0.0
                else:
                    outcome, fault, seconds, peak = "hang", "no end", WAIT, 0.0
                at += 1
                tally.cases += 1
                tally.outcomes[outcome] += 1
                tally.seconds, tally.megabytes = max(tally.seconds, seconds), max(tally.megabytes, peak)
                if fault:
                    tally.faults[case.name] = fault
                    if tell:
                        tell(f"{case.kind}: {case.name}: {fault}")
                if not line:
                    break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return tallies


def faulty(tallies: dict[str, Tally]) -> list[str]:
    """Return a line for each fault."""
    return [
        f"{kind}: {name}: {fault}" for kind, tally in tallies.items() for name, fault in tally.faults.items()
    ]


def _wait(pid: int, lines: TextIO) -> bool:
    """Return whether a process says something, before it has worked for too long or has done nothing for a while."""
    begun = before = _worked(pid)
    while not select.select([lines], [], [], WAIT)[0]:
        now = _worked(pid)
        if now == before or now - begun > 3 * SECONDS:
            return False
        before = now
    return True


def _worked(pid: int) -> float:
    """Return how many seconds of the processor a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(cases: Sequence[Case], folder: Path, seed: int) -> tuple[int, int]:
    """Fork a process that does the cases and writes a line for each; return its id and where the lines come out."""
    out, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        return pid, out
    try:
        os.close(out)
        limit = _size("VmSize") + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        gc.freeze()  # what is there is not looked at again
        for case in cases:
            os.write(into, (json.dumps(_do(case, folder, seed)) + "\n").encode())
    finally:
        os._exit(0)


def _do(case: Case, folder: Path, seed: int) -> tuple[str, str, float, float]:
    """Return what came of a case, what was wrong, and the seconds and megabytes that it took."""
    place = folder / f"{case.kind} {case.name}".replace("/", "-").replace(" ", "-")
    place.mkdir()
    os.chdir(place)
    _reset_peak()
    before, begun = _size("VmRSS"), time.process_time()
    fault = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = case.do(place, random.Random(f"{seed} {case.kind} {case.name}"))
    except UserError as error:
        outcome, fault = "refused", _unreadable(str(error))
    except Fault as error:
        outcome, fault = "fault", str(error)
    except BaseException as error:  # noqa: BLE001 (what is looked for)
        outcome, fault = "traceback", _brief(error)
    seconds = time.process_time() - begun
    megabytes = max(0, _size("VmHWM") - before) / 2**20
    if megabytes > BYTES / 2**20:
        fault = fault or f"{megabytes:.0f} MB of memory"
    if seconds > SECONDS:
        fault = fault or f"{seconds:.1f} s of work"
    if list(place.rglob(CANARY)):
        fault = "what was in the file was run"
    os.chdir(folder)
    if not fault:
        shutil.rmtree(place)
    return outcome, fault, seconds, megabytes


def _unreadable(text: str) -> str:
    """Return what is wrong with the text of an error, if anything."""
    if not all(line and line.isprintable() for line in text.split("\n")):
        return f"an error that cannot be printed: {text[:200]!r}"
    if "not enough memory" in text:
        return f"memory was asked for: {text[:200]}"
    return ""


def _brief(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "daps_" in frame.filename] or list(frames)
    place = f"{ours[-1].filename.rpartition('daps_')[2]}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {place}: {str(error)[:150]!r}"


def _size(what: str) -> int:
    """Return bytes of this process: VmRSS now, VmHWM at most so far, VmSize of address space."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next((int(line.split()[1]) << 10 for line in file if line.startswith(what)), 0)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
