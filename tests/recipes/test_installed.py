"""The installed recipes: all there and valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.recipe import installed_recipes, load_recipe, resolved_yaml
from tests.recipe_text import write

RECIPES = installed_recipes()
RUNS = [name for name in RECIPES if not name.startswith("train/")]


def test_the_recipes_of_the_eight_tasks_are_there() -> None:
    tasks = {"phase_retrieval", "down_sampling", "inpainting_box", "inpainting_random", "gaussian_blur", "motion_blur",
             "nonlinear_blur", "high_dynamic_range"}  # fmt: skip
    assert {f"embedded/{task}" for task in tasks} <= set(RUNS)
    files = [
        file for file in (Path(__file__).parents[2] / "recipes").rglob("*.yaml") if "parts" not in file.parts
    ]
    assert len(files) == len(RECIPES) or not files


@pytest.mark.parametrize("name", RUNS)
def test_an_installed_recipe_is_valid_and_resolves_to_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipes = load_recipe(name)
    assert len(recipes) >= 1
    for recipe in recipes:
        assert load_recipe(write("again.yaml", resolved_yaml(recipe))) == (recipe,)
