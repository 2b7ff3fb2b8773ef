"""`daps-kit run` hands on what it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from daps_kit.errors import RecipeError, UserError
from daps_kit.recipe import load_recipe
from tests.host.command_line import call, ok


class _Runner:
    """Stands for `daps_kit.runs.runner`, to see what it is called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def run(self, recipe: str, overrides: tuple[str, ...], *, quiet: bool, shard: str | None) -> None:
        self.shard = shard
        self.calls.append((recipe, overrides, quiet))
        if recipe == "wrong":
            raise UserError("the disk is full")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> _Runner:
    stand_in = _Runner()
    monkeypatch.setitem(sys.modules, "daps_kit.runs.runner", stand_in)  # type: ignore[arg-type]
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
    assert three.model_dump() == {"workers": 3, "silence": 900.0}
    assert (type(three).name, auto.model_dump()["workers"]) == ("processes", "auto")
    ok("run", "good.yaml", "--workers", "0")
    with pytest.raises(RecipeError, match=r"execution.workers: .*0"):
        load_recipe("good.yaml", runner.calls[-1][1])


def test_a_shard_is_handed_on(runner: _Runner) -> None:
    ok("run", "good.yaml", "--shard", "3/16")
    assert runner.shard == "3/16"
    ok("run", "good.yaml")
    assert runner.shard is None
