"""The script that kills those who compute a run: it sees what is lost, and a few kills with either executor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kills import ROOT
from tests.worker_kills import Fleet, kill_workers, table


class Alone(Fleet):
    """Nobody but the run itself."""

    victims = ("client",)
    changes = ("quick",)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("right", [True, False])
def test_what_is_lost_is_seen(tmp_path: Path, right: bool) -> None:
    out = tmp_path / "out"

    def run(changes: tuple[str, ...]) -> None:
        out.mkdir(exist_ok=True)
        for number in range(5):
            time.sleep(0.005)
            temporary = out / f".{number}.tmp"
            temporary.write_text(str(number) if right or not changes else "other")
            temporary.replace(out / f"{number}.txt")

    loss = kill_workers(run, Alone(), out, 3, seed=0)
    assert loss.kills == {"client": 3}
    assert loss.ends >= 1
    assert bool(loss.wrong) != right
    assert table({"files": loss}).splitlines()[-1].startswith("| files | 0 | 0 | 3 | ")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["--processes", "--dask"])
def test_a_few_kills(kind: str) -> None:
    if kind == "--dask":
        pytest.importorskip("distributed")
    kills: dict[str, Any] = {"--processes": "0", "--dask": "0", kind: "3"}
    words = [word for pair in kills.items() for word in pair]
    command = [sys.executable, "-m", "tests.worker_kills", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
