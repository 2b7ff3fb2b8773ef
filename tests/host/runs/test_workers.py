"""A run on several processes gives the files of one process, byte for byte, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import daps_kit
from daps_kit.runs.folder import RunFolder

COMMAND = "from daps_kit.command.main import main; main()"


def contents(folder: Path) -> dict[str, bytes]:
    """Return everything that must not depend on who computed it."""
    # The page shows the recipe, which says who computes.
    ignored = ("environment.json", "environment.js", "recipe.yaml", "report.html", ".lock")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ignored)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def start(*words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, "run", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition, program: subprocess.Popen[bytes] | None = None) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert program is None or program.poll() is None, program.communicate()[0].decode()
        assert time.monotonic() < limit
        time.sleep(0.01)


PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


@pytest.mark.slow
@PROC
def test_a_worker_is_killed_and_nothing_is_lost(toy, tmp_path, monkeypatch):
    whole = daps_kit.run(toy(), ["batch_size=2", "trajectory=2", f"output={tmp_path / 'whole'}"], quiet=True)
    killed: list[int] = []
    original = RunFolder.write_sample

    def write_sample(self: RunFolder, *written: Any) -> None:
        if not killed:
            killed.extend(children(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)
        original(self, *written)

    monkeypatch.setattr(RunFolder, "write_sample", write_sample)
    many = ["execution.use=processes", "execution.workers=2"]
    daps_kit.run(toy(), ["batch_size=2", "trajectory=2", *many], quiet=True)
    assert len(killed) == 1
    assert contents(tmp_path / "out") == contents(whole.path)


@pytest.mark.slow
@PROC
def test_workers_and_client_are_killed_and_nothing_is_lost(toy, tmp_path):
    changes = [
        "batch_size=2",
        "runs=4",
        "sampler.annealing.levels=30",
        "sampler.kernel.steps=30",
        "trajectory=2",
    ]
    whole = daps_kit.run(toy(), [*changes, f"output={tmp_path / 'whole'}"], quiet=True)
    out = tmp_path / "out"

    program = start(str(toy()), *changes, "--workers", "2")
    wait_for(lambda: list(out.glob("samples/*/sample-*[0-9].safetensors")), program)
    workers = children(program.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    time.sleep(0.2)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    wait_for(lambda: all(gone(pid) for pid in workers))
    assert not (out / "metrics.json").exists()

    program = start(str(toy()), *changes, "--workers", "2", "--quiet")
    wait_for(lambda: len(children(program.pid)) == 2, program)
    time.sleep(0.5)
    os.kill(children(program.pid)[1], signal.SIGKILL)
    text = program.communicate(timeout=200)[0].decode()
    assert (program.returncode, text) == (0, "")
    assert contents(out) == contents(whole.path)
