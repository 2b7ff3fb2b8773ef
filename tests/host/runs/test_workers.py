"""A run on several processes gives the files of one process, byte for byte, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import daps_kit
from daps_kit.errors import UserError
from daps_kit.runs import runner
from daps_kit.runs.folder import RunFolder
from daps_kit.runs.worker import Batch

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
@pytest.mark.parametrize("shared", [False, True])
def test_a_worker_is_killed_and_nothing_is_lost(toy, tmp_path, monkeypatch, shared):
    whole = daps_kit.run(toy(), ["batch_size=2", "trajectory=2", f"output={tmp_path / 'whole'}"], quiet=True)
    killed: list[int] = []
    written: list[Any] = []
    add_seconds, write_sample = RunFolder.add_seconds, RunFolder.write_sample

    def kill(self: RunFolder, *said: Any) -> None:
        if not killed:
            killed.extend(children(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)
        add_seconds(self, *said)

    def write(self: RunFolder, *sample: Any) -> None:
        written.append(sample)
        write_sample(self, *sample)

    monkeypatch.setattr(RunFolder, "add_seconds", kill)
    monkeypatch.setattr(RunFolder, "write_sample", write)
    many = ["execution.use=processes", "execution.workers=2", f"execution.shared_folder={shared}"]
    daps_kit.run(toy(), ["batch_size=2", "trajectory=2", *many], quiet=True)
    assert len(killed) == 1
    assert len(written) == (0 if shared else 6)
    assert contents(tmp_path / "out") == contents(whole.path)


@pytest.fixture
def scheduler() -> Iterator[str]:
    """A scheduler of dask with a worker, in threads of this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None,
        silence_logs=100,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_workers_of_dask_write_a_shared_folder(toy, tmp_path, scheduler, monkeypatch):
    changes = ["batch_size=2", "trajectory=2"]
    whole = daps_kit.run(toy(), [*changes, f"output={tmp_path / 'whole'}"], quiet=True)
    many = [
        *changes,
        "execution.use=dask",
        f"execution.scheduler={scheduler}",
        "execution.shared_folder=true",
    ]
    unpack = Batch.unpack

    def images(data: bytes) -> Batch:
        batch = unpack(data)
        assert all(sample.x0.numel() == 0 for sample in batch.samples)
        return batch

    monkeypatch.setattr(Batch, "unpack", images)
    daps_kit.run(toy(), many, quiet=True)
    assert contents(tmp_path / "out") == contents(whole.path)

    monkeypatch.setattr(Batch, "write", lambda *_: None)
    monkeypatch.setattr(runner, "SEEN", 0.3)
    with pytest.raises(UserError, match=r"a worker wrote .*sample-01.safetensors, which is not seen here"):
        daps_kit.run(toy(), [*many, f"output={tmp_path / 'late'}"], quiet=True)

    def elsewhere(self: RunFolder, token: str) -> None:
        require_shared(RunFolder(tmp_path / "elsewhere"), token)

    require_shared = RunFolder.require_shared
    monkeypatch.setattr(RunFolder, "require_shared", elsewhere)
    with pytest.raises(UserError) as caught:
        daps_kit.run(toy(), [*many, f"output={tmp_path / 'other'}"], quiet=True)
    assert str(caught.value).startswith("execution.shared_folder: a worker on ")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "other").glob("samples/*/*.safetensors"))


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
