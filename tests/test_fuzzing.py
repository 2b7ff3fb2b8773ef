"""Bad input of every kind, a little of each; `python -m tests.fuzzing` tries far more."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from daps_kit.errors import UserError
from tests.fuzzing import watch as watching
from tests.fuzzing.__main__ import table
from tests.fuzzing.checkpoints import checkpoint_cases
from tests.fuzzing.files import FORMATS, OURS, READERS, file_cases
from tests.fuzzing.mutate import mutated_bytes, mutated_tree
from tests.fuzzing.recipes import name_cases, recipe_cases
from tests.fuzzing.watch import CANARY, Case, Fault, Tally, faulty, watch

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, which is also where the user's own files would be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    yield tmp_path
    assert not list(Path(tempfile.gettempdir()).glob(f"*/{CANARY}"))


def test_whatever_comes_in_is_answered(home: Path) -> None:
    cases = [*recipe_cases(18), *name_cases(3), *file_cases(2, home / "good"), *checkpoint_cases(18)]
    assert faulty(watch(cases, home / "bad", seed=5)) == []


def test_what_is_damaged_could_be_read_before(tmp_path: Path) -> None:
    for kind, write in FORMATS.items():
        path = tmp_path / f"good.{kind}"
        try:
            write(path)
        except (ImportError, KeyError, OSError, pytest.skip.Exception):
            continue
        for purpose in ("measurement", "image", "training"):
            READERS[purpose](path)
    for name, (write, read) in OURS.items():
        write(path := tmp_path / f"{name}.safetensors")
        read(path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_comes_in_is_answered_at_length(home: Path) -> None:
    cases = [*recipe_cases(200), *name_cases(30), *file_cases(30, home / "good"), *checkpoint_cases(90)]
    assert faulty(watch(cases, home / "bad", seed=6)) == []


@pytest.mark.slow
def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WAIT", 6.0)
    monkeypatch.setattr(watching, "SECONDS", 0.2)
    monkeypatch.setattr(watching, "BYTES", 64 << 20)

    def raises(error: BaseException) -> str:
        raise error

    def hangs() -> str:
        while True:
            signal.pause()

    def works() -> str:
        begun = time.process_time()
        while time.process_time() - begun < 0.3:
            pass
        return "read"

    doings = {
        "read": lambda: "read",
        "refused": lambda: raises(UserError("one", "two")),
        "own": lambda: raises(Fault("what it found")),
        "traceback": lambda: raises(KeyError("x")),
        "dark": lambda: raises(UserError("")),
        "memory": lambda: str(len(bytearray(128 << 20).replace(b"\0", b"\1", 1)) and "read"),
        "asked": lambda: raises(UserError("there is not enough memory for it")),
        "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hangs": hangs,
        "works": works,
        "run": lambda: Path(CANARY).write_text("x") and "read",
        "after": lambda: "read",
    }
    cases = [Case(f"kind of {name}", name, lambda place, draw, do=do: do()) for name, do in doings.items()]
    told: list[str] = []
    tallies = watch(cases, tmp_path, tell=told.append)
    assert told == faulty(tallies)
    found = {line.split(": ")[1]: line.split(": ", 2)[2] for line in told}
    assert found.keys() == {"own", "traceback", "dark", "memory", "asked", "dies", "hangs", "works", "run"}
    assert found["own"] == "what it found"
    assert found["traceback"].startswith("KeyError at ")
    assert found["memory"].endswith(" MB of memory")
    assert found["dies"] == "the process died"
    assert found["hangs"] == "no end"
    assert found["works"].endswith(" s of work")
    assert tallies["kind of refused"].outcomes == {"refused": 1}
    kept = {path.name for path in tmp_path.iterdir()}
    assert "kind-of-traceback-traceback" in kept
    assert "kind-of-read-read" not in kept


def test_a_table_of_what_came() -> None:
    tally = Tally(3, seconds=1.25, megabytes=7.6, faults={"1": "KeyError"})
    tally.outcomes.update({"read": 1, "refused": 2})
    assert table({"files": tally}).splitlines()[-1] == "| files | 3 | 2 refused, 1 read | 1.2 s | 8 MB | 1 |"


def test_mutations_depend_on_the_seed_and_leave_the_original() -> None:
    tree = {"a": [1, {"b": "x"}], "c": None}
    once, again = ([mutated_tree(tree, Random(seed)) for seed in range(50)] for _ in range(2))
    assert repr(once) == repr(again)
    assert tree == {"a": [1, {"b": "x"}], "c": None}
    assert len({repr(each) for each in once}) > 30
    data = bytes(range(256))
    changed = [mutated_bytes(data, Random(seed)) for seed in range(50)]
    assert changed == [mutated_bytes(data, Random(seed)) for seed in range(50)]
    assert len(set(changed)) > 45
