"""The script that kills runs and trainings: it sees what differs, and a few kills of each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kills import ROOT, kill, table


def writes(out: Path, *, resumes: bool) -> Callable[[], None]:
    """Return work that writes ten files, and that counts how often it was begun unless it `resumes`."""

    def work() -> None:
        out.mkdir(exist_ok=True)
        if not resumes:
            with (out / "begun.txt").open("a") as file:
                file.write("x")
        for number in range(10):
            time.sleep(0.005)
            temporary = out / f".{number}.tmp"
            temporary.write_text(str(number))
            temporary.replace(out / f"{number}.txt")

    return work


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("resumes", [True, False])
def test_what_does_not_go_on_is_seen(tmp_path: Path, resumes: bool) -> None:
    out = tmp_path / "out"
    tally = kill({"files": writes(out, resumes=resumes)}, out, 8, seed=0)["files"]
    assert tally.kills == 8
    assert tally.ends >= 2
    seen = "files: begun.txt differs" in tally.wrong
    assert seen != resumes
    assert table({"files": tally}).splitlines()[-1].startswith("| files | 8 | ")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["--runs", "--trainings"])
def test_a_few_kills(kind: str) -> None:
    kills = {"--runs": "0", "--trainings": "0", kind: "8"}
    words = [word for pair in kills.items() for word in pair]
    command = [sys.executable, str(ROOT / "tests" / "kills.py"), *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
