"""`daps-kit recipes`."""

from __future__ import annotations

import json
from pathlib import Path

from daps_kit.recipe import installed_recipes, load_recipe
from daps_kit.registry import default_registry
from daps_kit.weights.checkpoints import target_of
from tests.host.command_line import ok


def test_recipes() -> None:
    told = json.loads(ok("recipes", "--json"))
    assert [each["name"] for each in told] == list(installed_recipes())
    assert all(each["summary"] and Path(each["path"]).is_file() for each in told)
    lines = ok("recipes").splitlines()
    assert len([line for line in lines if "/" in line.split(" ")[0] or line.startswith("quickstart")]) == len(
        told
    )
    assert not [line for line in lines if "parts/" in line]


def test_recipes_whose_weights_are_absent_are_marked(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path))

    def absent():
        return {each["name"]: each["absent"] for each in json.loads(ok("recipes", "--json"))}

    told = absent()
    assert told["ffhq256ddpm/gaussian_blur"] == ["ffhq256ddpm"]
    assert told["stable-diffusion-v1.5/gaussian_blur"] == ["stable-diffusion-v1.5"]
    assert told["embedded/gaussian_blur"] == told["train/portraits64"] == []
    (line,) = [line for line in ok("recipes").splitlines() if line.startswith("ffhq256ddpm/gaussian_blur ")]
    assert line.endswith("Not here: ffhq256ddpm.")
    for source in default_registry().sources:
        target_of(source).parent.mkdir(exist_ok=True)
        target_of(source).touch()
    assert not any(absent().values())
    assert "Not here" not in ok("recipes")


def test_a_copied_recipe_is_told_with_the_command_that_runs_it() -> None:
    assert ok("recipes", "copy", "quickstart", "a.yaml").endswith("then `daps-kit run a.yaml`\n")
    assert ok("recipes", "copy", "train/portraits64", "b.yaml").endswith("then `daps-kit train b.yaml`\n")


def test_a_copy_has_an_output_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ok("recipes", "copy", "embedded/inpainting_box", "mine.yaml")
    assert load_recipe("mine.yaml")[0].output == tmp_path / "results" / "mine"
    assert Path("mine.yaml").read_text().count("output:") == 1
    ok("recipes", "copy", "mine.yaml", "other.yaml")
    assert load_recipe("other.yaml")[0].output == tmp_path / "results" / "other"
