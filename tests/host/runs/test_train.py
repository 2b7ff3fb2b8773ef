"""A training from Python."""

from __future__ import annotations

import pytest

from daps_kit.errors import UserError
from daps_kit.recipe.training import load_training
from daps_kit.runs.train import train_recipe

pytestmark = pytest.mark.usefixtures("sums")


def test_a_recipe_in_python() -> None:
    recipe = load_training("recipes/sums.yaml")
    assert train_recipe(recipe, quiet=True).read_text() == "55"
    with pytest.raises(UserError, match="overrides change the text"):
        train_recipe(recipe, ["trainer.upto=3"])
