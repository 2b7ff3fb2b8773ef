"""`daps-kit train`: reading its recipes, what it tells, breaking off and going on."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import Field
from rich.console import Console

from daps_kit.command.main import main
from daps_kit.errors import RecipeError, UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.training import is_training, load_training
from daps_kit.registry import default_registry
from daps_kit.runs.train import train
from daps_kit.runs.training_progress import TrainingDisplay
from daps_kit.settings import TrainerSettings
from daps_kit.trainer import Trainer, TrainingProgress


class Adder(Trainer):
    """Adds up whole numbers, one an image; its weights are the sum, and a file keeps the sum so far."""

    def __init__(self, settings: Sums) -> None:
        self.settings = settings

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        settings = self.settings
        settings.output.mkdir(parents=True, exist_ok=True)
        checkpoint = settings.output / "checkpoint.json"
        done, total = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
        for image in range(done + 1, settings.upto + 1):
            if image == settings.interrupt_at and not (settings.output / "interrupted").exists():
                (settings.output / "interrupted").touch()
                raise KeyboardInterrupt
            total += image
            checkpoint.write_text(json.dumps([image, total]))
            if progress:
                measured = {"mse": {"0.1": 1 / image, "1.0": 0.5}, "linear": {"1.0": 0.25}}
                ended = measured if image % 5 == 0 else None
                progress(TrainingProgress(image, settings.upto, 1 / image, 2.0, 1e-3, ended))
        weights = settings.output / "weights.txt"
        weights.write_text(str(total))
        return weights


class Sums(TrainerSettings):
    """Adds up numbers."""

    name = "sums"
    upto: int = Field(10, ge=1, description="last number")
    interrupt_at: int = Field(0, description="number at which the user presses Ctrl-C, once")

    def build(self) -> Adder:
        return Adder(self)


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/sums.yaml").write_text("format: 1\ntrainer: {use: sums, upto: 10}\n")
    with default_registry().extended(Sums):
        yield


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def problems(recipe: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_training(recipe, overrides)
    return str(caught.value).splitlines()


def test_train_writes_the_weights_and_the_resolved_recipe_where_the_user_works(tmp_path: Path) -> None:
    result = call("train", "recipes/sums.yaml", "trainer.upto=7")
    assert (result.exit_code, result.stdout) == (0, "")
    folder = tmp_path / "training" / "sums"
    assert (folder / "weights.txt").read_text() == str(7 * 8 // 2)
    assert f"weights: {folder / 'weights.txt'}" in result.stderr
    again = load_training(folder / "recipe.yaml")
    assert again == load_training("recipes/sums.yaml", ["trainer.upto=7"])
    assert "daps-kit train FILE" in (folder / "recipe.yaml").read_text()


def test_output_may_be_chosen_and_starts_from_the_working_folder(tmp_path: Path) -> None:
    recipe = load_training("recipes/sums.yaml", ["trainer.output=mine"])
    assert recipe.trainer.output == tmp_path / "mine"
    Path("recipes/given.yaml").write_text("format: 1\ntrainer: {use: sums, output: there}\n")
    assert load_training("recipes/given.yaml").trainer.output == tmp_path / "there"
    assert load_training("recipes/sums.yaml", ["name=other"]).trainer.output == tmp_path / "training/other"


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does() -> None:
    command = ("train", "recipes/sums.yaml", "trainer.interrupt_at=6")
    result = call(*command)
    assert result.exit_code == 130
    told = " ".join(result.stderr.split())
    assert "stopped at 5 images; the same command goes on from the last checkpoint in" in told
    assert json.loads(Path("training/sums/checkpoint.json").read_text()) == [5, 15]
    assert not Path("training/sums/weights.txt").exists()
    assert call(*command).exit_code == 0
    assert Path("training/sums/weights.txt").read_text() == "55"
    # More images, and a finished training goes on from its end.
    assert call(*command, "trainer.upto=11").exit_code == 0
    assert Path("training/sums/weights.txt").read_text() == "66"


def test_quiet_tells_nothing() -> None:
    result = call("train", "recipes/sums.yaml", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_errors_are_located_and_all_of_them_are_told() -> None:
    Path("bad.yaml").write_text("format: 2\ntrainer:\n  use: sums\n  upto: 0\n  upo: 3\nruns: 4\n")
    lines = problems("bad.yaml")
    assert [line.partition(": ")[0] for line in lines] == [
        "bad.yaml:1:9", "bad.yaml:4:9", "bad.yaml:5:3", "bad.yaml:6:1",
    ]  # fmt: skip
    assert "did you mean 'upto'?" in lines[2]
    result = call("train", "bad.yaml")
    assert (result.exit_code, result.stderr.splitlines()) == (2, lines)
    assert not Path("training").exists()
    (line,) = problems("recipes/sums.yaml", "trainer.use=smus")
    assert "unknown trainer 'smus'" in line
    assert "did you mean 'sums'?" in line
    (line,) = problems("recipes/sums.yaml", "trainer=3")
    assert "trainer: expected a section of settings" in line
    (line,) = problems("nothing.yaml")
    assert line.startswith("no such file: nothing.yaml")


def test_a_run_is_no_training_and_a_training_no_run() -> None:
    assert is_training("recipes/sums.yaml")
    assert not is_training("embedded/gaussian_blur")
    assert not is_training("nothing")
    (line,) = problems("embedded/gaussian_blur")
    assert line.endswith("trainer: is missing; it describes a run: `daps-kit run` runs it")
    with pytest.raises(RecipeError, match=r"sums\.yaml:2:1: trainer: .*`daps-kit train` runs it"):
        load_recipe("recipes/sums.yaml")


def test_check_knows_trainings() -> None:
    result = call("check", "recipes/sums.yaml")
    assert result.stdout == f"sums: valid; results go to {Path.cwd() / 'training/sums'}\n"
    resolved = call("check", "recipes/sums.yaml", "--resolved").stdout
    Path("resolved.yaml").write_text(resolved)
    assert load_training("resolved.yaml") == load_training("recipes/sums.yaml")
    told = json.loads(call("check", "recipes/sums.yaml", "trainer.upto=no", "--json").stdout)
    assert told["valid"] is False
    assert [problem["path"] for problem in told["problems"]] == ["trainer.upto"]


def test_list_and_show_know_trainers() -> None:
    assert "trainer  sums" in call("list", "trainers").stdout
    shown = call("show", "trainer/sums").stdout
    assert "upto" in shown
    Path("shown.yaml").write_text(
        "format: 1\n" + json.loads(call("show", "trainer/sums", "--json").stdout)["recipe"]
    )
    assert load_training("shown.yaml", ["trainer.output=x"]).trainer == Sums(output=Path("x").absolute())


def test_a_recipe_in_python() -> None:
    recipe = load_training("recipes/sums.yaml")
    assert train(recipe, quiet=True).read_text() == "55"
    with pytest.raises(UserError, match="overrides change the text"):
        train(recipe, ["trainer.upto=3"])


def test_extends() -> None:
    Path("recipes/more.yaml").write_text("extends: sums.yaml\ntrainer: {upto: 3}\n")
    recipe = load_training("recipes/more.yaml")
    assert (recipe.name, recipe.trainer.upto) == ("more", 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [False, True])
def test_report(terminal: bool) -> None:
    out = io.StringIO()
    seconds = [0.0]
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
    measured: Any = {"mse": {"0.1": 0.001234, "1.0": 0.0125}, "linear": {"1.0": 0.5}}
    with TrainingDisplay("faces", console, clock=lambda: seconds[0]) as report:
        for second in range(40):
            seconds[0] = float(second)
            report(
                TrainingProgress(100 * second, 36_000, 0.5, 100.0, 1e-3, measured if second == 39 else None)
            )
    text = out.getvalue()
    for row in (r" +0\.1 +1\.0", r"  mse +0\.00123 +0\.0125", r"  linear +0\.5"):
        assert re.search(row + r" *\n", text)
    assert "faces: 3,900 of 36,000 images  loss 0.5000  rate 0.001  100 images/s  5 min left" in text
    # On a terminal the bar tells what is between two epochs; elsewhere a line does, at growing intervals.
    assert text.count("faces: ") == (1 if terminal else 5)
    assert ("\u2501" in text) == terminal
