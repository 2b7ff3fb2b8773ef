"""A training from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from daps_kit.errors import UserError
from daps_kit.recipe.training import load_training
from daps_kit.runs.train import train_recipe
from tests.host.command_line import call

pytestmark = pytest.mark.usefixtures("sums")


def test_a_recipe_in_python() -> None:
    recipe = load_training("recipes/sums.yaml")
    assert train_recipe(recipe, quiet=True).read_text() == "55"
    with pytest.raises(UserError, match="overrides change the text"):
        train_recipe(recipe, ["trainer.upto=3"])


FOLDER = Path("training/sums")


def test_a_folder_that_holds_something_else_is_refused_and_stays() -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / "thesis.tex").write_text("x")
    with pytest.raises(
        UserError, match=r"trainer\.output: .*sums holds something that is no training \(thesis"
    ):
        train_recipe("recipes/sums.yaml", quiet=True)
    (FOLDER / "recipe.yaml").write_text("format: 1\ntrainer: {use: sums}\n")
    with pytest.raises(UserError, match=r"recipe\.yaml is a recipe of your own, which would be written over"):
        train_recipe("recipes/sums.yaml", quiet=True)
    for text, why in (
        ("operator: {use: identity}\n", "holds a run"),
        ("trainer: {use: denoiser}\n", "holds the training of a denoiser, not of a local/sums"),
        ("trainer: [\n", "recipe.yaml is damaged"),
    ):
        (FOLDER / "recipe.yaml").write_text(f"# resolved by daps-kit 0\n{text}")
        with pytest.raises(UserError, match=f"trainer.output: .*{why}"):
            train_recipe("recipes/sums.yaml", quiet=True)
        assert (FOLDER / "recipe.yaml").read_text().endswith(text)
    assert sorted(path.name for path in FOLDER.iterdir() if path.suffix) == ["recipe.yaml", "thesis.tex"]


def test_a_training_does_not_destroy_a_run_nor_a_run_a_training() -> None:
    train_recipe("recipes/sums.yaml", quiet=True)
    before = (FOLDER / "recipe.yaml").read_bytes()
    Path("run.yaml").write_text(
        "format: 1\ndata: {use: prior, count: 1, image_shape: [1, 4, 4]}\nprior: {use: gaussian}\n"
        "operator: {use: identity}\nsampler: {use: daps}\n"
    )
    told = call("run", "run.yaml", f"output={FOLDER}", "-q")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == f"error: output: {FOLDER.absolute()} holds a training; choose another folder\n"
    assert (FOLDER / "recipe.yaml").read_bytes() == before


def test_two_trainings_never_share_a_folder_and_leftovers_go() -> None:
    train_recipe("recipes/sums.yaml", ["trainer.upto=3"], quiet=True)
    (FOLDER / ".weights.txt.12.tmp").write_text("half")
    (FOLDER / ".checkpoint.safetensors.new.tmp").write_text("whole, but never taken")
    with (
        FileLock(FOLDER / ".lock", timeout=0),
        pytest.raises(UserError, match="another daps-kit is at work in .*sums"),
    ):
        train_recipe("recipes/sums.yaml", quiet=True)
    train_recipe("recipes/sums.yaml", quiet=True)
    assert not list(FOLDER.glob("*.tmp"))


def test_a_training_that_is_refused_leaves_the_recipe_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> Path:
        raise UserError("checkpoint belongs to a run with other images")

    with monkeypatch.context() as patched:
        patched.setattr("tests.host.sums.Adder.run", refuse)
        with pytest.raises(UserError, match="other images"):
            train_recipe("recipes/sums.yaml", quiet=True)
        assert not (FOLDER / "recipe.yaml").exists()
    train_recipe("recipes/sums.yaml", quiet=True)
    before = (FOLDER / "recipe.yaml").read_bytes()
    monkeypatch.setattr("tests.host.sums.Adder.run", refuse)
    with pytest.raises(UserError, match="other images"):
        train_recipe("recipes/sums.yaml", ["trainer.upto=11"], quiet=True)
    assert (FOLDER / "recipe.yaml").read_bytes() == before


def test_torchrun_is_for_trainers_that_share_their_steps(sums, monkeypatch):
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match="this trainer trains in one process"):
        train_recipe("recipes/sums.yaml", quiet=True)
