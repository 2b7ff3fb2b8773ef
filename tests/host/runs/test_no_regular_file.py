"""Pipes and sockets among the results: every command that reads the folder says so in a line, and waits for none."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import daps_kit
from daps_kit.command.main import main

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")

COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "run": lambda recipe, folder: ["run", str(recipe), f"output={folder}", "-q"],
    "run again": lambda recipe, folder: ["run", str(folder / "recipe.yaml"), "-q"],
    "check": lambda recipe, folder: ["check", str(recipe), f"output={folder}"],
    "runs": lambda recipe, folder: ["runs", str(folder)],
    "table": lambda recipe, folder: ["table", str(folder)],
    "report": lambda recipe, folder: ["report", str(folder)],
    "merge": lambda recipe, folder: ["merge", str(folder), str(folder.parent / "whole")],
}


@contextmanager
def seconds(count: int) -> Iterator[None]:
    """Interrupt what waits."""

    def waited(*_: object) -> None:
        raise TimeoutError("it waited")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(count)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has 100 letters at most
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_pipe, _socket])
def test_every_command_ends_in_a_line(toy, tmp_path, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = {"use": "images", "path": str(tmp_path / "photos" / "ash.png"), "size": 16}
    recipe, whole = toy(data=one), tmp_path / "finished"
    daps_kit.run(recipe, ["runs=2", f"output={whole}"], quiet=True)
    every = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    files = {re.sub(r"\d+", "0", str(file)): file for file in every}.values()  # one of each kind
    assert {"recipe.yaml", "metrics.json", "environment.json"} <= {str(file) for file in files}
    found = []
    for file in files:
        for name, command in COMMANDS.items():
            folder = tmp_path / "some" / "there"
            shutil.copytree(whole, folder)
            (folder / file).unlink()
            make(folder / file)
            with seconds(20):
                result = CliRunner().invoke(main, command(recipe, folder))
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                found.append(f"{name}: {file}: {result.exception!r}")
            shutil.rmtree(folder.parent)
    assert found == []
