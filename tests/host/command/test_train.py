"""`daps-kit train`: reading its recipes, what it tells, breaking off and going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daps_kit.recipe.training import load_training
from tests.host.command_line import call
from tests.host.sums import Sums

pytestmark = pytest.mark.usefixtures("sums")


def test_train_writes_the_weights_and_the_resolved_recipe_where_the_user_works(tmp_path: Path) -> None:
    result = call("train", "recipes/sums.yaml", "trainer.upto=7")
    assert (result.exit_code, result.stdout) == (0, "")
    folder = tmp_path / "training" / "sums"
    assert (folder / "weights.txt").read_text() == str(7 * 8 // 2)
    assert f"weights: {folder / 'weights.txt'}" in result.stderr
    again = load_training(folder / "recipe.yaml")
    assert again == load_training("recipes/sums.yaml", ["trainer.upto=7"])
    assert "daps-kit train FILE" in (folder / "recipe.yaml").read_text()


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


def test_check_knows_trainings() -> None:
    result = call("check", "recipes/sums.yaml")
    assert (
        result.stdout
        == f"sums: valid; `daps-kit train` trains it; results go to {Path.cwd() / 'training/sums'}\n"
    )
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
