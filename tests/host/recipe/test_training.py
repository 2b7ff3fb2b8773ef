"""Recipes of trainings: complete, located errors, told from runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.training import is_training, load_training
from tests.host.command_line import call

pytestmark = pytest.mark.usefixtures("sums")


def problems(recipe: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_training(recipe, overrides)
    return str(caught.value).splitlines()


def test_output_may_be_chosen_and_starts_from_the_working_folder(tmp_path: Path) -> None:
    recipe = load_training("recipes/sums.yaml", ["trainer.output=mine"])
    assert recipe.trainer.output == tmp_path / "mine"
    Path("recipes/given.yaml").write_text("format: 1\ntrainer: {use: sums, output: there}\n")
    assert load_training("recipes/given.yaml").trainer.output == tmp_path / "there"
    assert load_training("recipes/sums.yaml", ["name=other"]).trainer.output == tmp_path / "training/other"


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


def test_extends() -> None:
    Path("recipes/more.yaml").write_text("extends: sums.yaml\ntrainer: {upto: 3}\n")
    recipe = load_training("recipes/more.yaml")
    assert (recipe.name, recipe.trainer.upto) == ("more", 3)  # type: ignore[attr-defined]
