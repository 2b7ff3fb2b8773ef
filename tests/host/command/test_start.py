"""Ctrl-C at any moment of any command is a line and exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MOMENTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2, 3.0)
COMMANDS = {
    "run": ("run", "quickstart", "runs=500"),
    "run -q": ("run", "-q", "quickstart", "runs=500"),
    "check": ("check", "quickstart"),
    "train": ("train", "train/portraits64"),
    "train -q": ("train", "-q", "train/portraits64"),
    "restore": ("restore", "photo.png", "--denoise", "0.1"),
}
STARTED = (
    "import os, signal; from daps_kit.command.interrupt import leave; from daps_kit.command.start import main; signal.signal(signal.SIGINT, leave); "
    "os.write(1, b'x'); main()"
)
"""Python takes its time before any code of ours runs; the test waits for the first of it."""
ENDING = """
import os, sys, time
from daps_kit.command.start import main
class Late:
    def __del__(self, write=os.write, sleep=time.sleep):
        write(2, b"ending\\n")
        write(1, b"x")
        sleep(0.2)
late = Late()
sys.stdout = sys.stderr
main()
"""
"""A program that is interrupted when its modules are taken down, after all that is called at exit."""


def interrupted(
    folder: Path, arguments: tuple[str, ...], moment: float, program: str = STARTED
) -> tuple[int, str]:
    """Return how a command ended that was interrupted so many seconds after it told, and what it said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.read(1)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    return process.returncode, said.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from PIL import Image

    Image.linear_gradient("L").resize((64, 64)).save(tmp_path / "photo.png")
    return tmp_path


def check(folder: Path, name: str, moment: float) -> None:
    code, said = interrupted(folder, COMMANDS[name], moment)
    if code in (0, 2) and not said.count(
        "stopped"
    ):  # it was done before, or the images of a training are not here
        return
    assert code == 130, (name, moment, code, said)
    assert "Traceback" not in said, (name, moment, said)
    assert said.splitlines()[-1].startswith("stopped"), (name, moment, said)


@pytest.mark.parametrize("moment", [0.02, 0.3])
@pytest.mark.parametrize("name", ["run -q"])
def test_a_run_that_is_interrupted_early(folder, name, moment):
    check(folder, name, moment)


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("no-such-command", 2)])
def test_a_command_that_is_done_keeps_its_exit_code(folder, argument, code):
    ended, said = interrupted(folder, (argument,), 0.05, ENDING)
    assert (ended, said.splitlines()[-1]) == (code, "ending"), said


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_interrupted_at_any_moment(folder, name, moment):
    check(folder, name, moment)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("run {toy} output=there", 0),
        ("run bad.yaml", 2),
        ("nothing", 2),
        ("runs . --json", 0),
    ],
)
def test_messages_that_cannot_be_written_end_nothing(tmp_path, toy, command, code):
    start = f"{sys.executable} -c 'from daps_kit.command.start import main; main()'"
    program = f"{start} {command.format(toy=toy())} 2>/dev/full"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        program, shell=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == code
    said = "note: messages were lost, since they could not be written: No space left on device"
    assert (said in done.stdout.splitlines()) == (code == 2 or command.startswith("run "))
    assert (tmp_path / "there/metrics.json").exists() == ("output=there" in command)
