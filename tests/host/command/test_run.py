"""`daps-kit run` hands on what it is told."""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daps_kit.errors import RecipeError, UserError
from daps_kit.recipe import load_recipe
from tests.host.command_line import call, ok


class _Runner:
    """Stands for `daps_kit.runs.sweep`, to see what it is called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def run(
        self,
        recipe: str,
        overrides: tuple[str, ...],
        *,
        multirun: bool,
        shard: str | None,
        quiet: bool = False,
        progress: Any = None,
    ) -> Any:
        self.shard = shard
        self.calls.append((recipe, overrides, quiet))
        if recipe == "wrong":
            raise UserError("the disk is full")
        if progress is not None:
            progress.note("a line")
        return SimpleNamespace(path=Path("out"), grid=Path("out/grid.png"))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> _Runner:
    stand_in = _Runner()
    monkeypatch.setitem(sys.modules, "daps_kit.runs.sweep", stand_in)  # type: ignore[arg-type]
    return stand_in


def test_run_hands_everything_on(runner: _Runner) -> None:
    assert ok("run", "good.yaml") == ""
    ok("run", "good.yaml", "runs=2", "seed=3", "--quiet", "--output", "a: b")
    assert runner.calls == [
        ("good.yaml", (), False), ("good.yaml", ("runs=2", "seed=3", 'output="a: b"'), True),
    ]  # fmt: skip
    (recipe,) = load_recipe("good.yaml", runner.calls[1][1])
    assert recipe.output == Path.cwd() / "a: b"
    result = call("run", "wrong")
    assert (result.exit_code, result.stderr) == (2, "error: the disk is full\n")


def test_negative_values_need_no_escape(runner: _Runner) -> None:
    ok("run", "good.yaml", "prior.mean=-0.5")
    assert runner.calls == [("good.yaml", ("prior.mean=-0.5",), False)]


def test_workers_are_an_executor(runner: _Runner) -> None:
    ok("run", "good.yaml", "--workers", "3")
    ok("run", "good.yaml", "--workers", "auto")
    three, auto = (load_recipe("good.yaml", call[1])[0].execution for call in runner.calls)
    assert three.workers == 3
    assert (type(three).name, auto.model_dump()["workers"]) == ("processes", "auto")
    ok("run", "good.yaml", "--workers", "0")
    with pytest.raises(RecipeError, match=r"execution.workers: .*0"):
        load_recipe("good.yaml", runner.calls[-1][1])


def test_a_scheduler_is_an_executor(runner: _Runner) -> None:
    ok("run", "good.yaml", "--scheduler", "tcp://there:1")
    (recipe,) = load_recipe("good.yaml", runner.calls[0][1])
    assert (type(recipe.execution).name, recipe.execution.model_dump()["scheduler"]) == (
        "dask",
        "tcp://there:1",
    )
    result = call("run", "good.yaml", "--scheduler", "tcp://there:1", "--workers", "2")
    assert (result.exit_code, result.stderr.startswith("error: --workers and --scheduler: ")) == (2, True)


def test_a_shard_is_handed_on(runner: _Runner) -> None:
    ok("run", "good.yaml", "--shard", "3/16")
    assert runner.shard == "3/16"
    ok("run", "good.yaml")
    assert runner.shard is None


def test_a_fresh_folder_is_numbered(runner: _Runner) -> None:
    ok("run", "good.yaml", "--fresh", "--name", "mine")
    (recipe,) = load_recipe("good.yaml", runner.calls[0][1])
    assert (recipe.name, recipe.output) == ("mine", Path.cwd() / "results/mine")
    for name in ("mine", "mine-2"):
        Path("results", name).mkdir(parents=True)
    ok("run", "good.yaml", "--fresh", "--name", "mine")
    assert load_recipe("good.yaml", runner.calls[1][1])[0].output == Path.cwd() / "results/mine-3"


def test_the_page_or_the_picture_is_shown(runner: _Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    ok("run", "good.yaml", "--open")
    Path("out").mkdir()
    Path("out/report.html").write_text("")
    ok("run", "good.yaml", "--open")
    assert shown == [(Path.cwd() / "out" / name).as_uri() for name in ("grid.png", "report.html")]


def test_events_are_lines_of_json(runner: _Runner) -> None:
    told = [json.loads(line) for line in ok("run", "good.yaml", "--json").splitlines()]
    assert told == [
        {"event": "note", "text": "a line"}, {"event": "end", "folder": "out", "picture": "out/grid.png"},
    ]  # fmt: skip
    failed = call("run", "wrong", "--json")
    assert json.loads(failed.stdout.splitlines()[-1]) == {"event": "error", "text": "the disk is full"}
    assert (failed.exit_code, failed.stderr) == (2, "error: the disk is full\n")
