"""A training from Python."""

from __future__ import annotations

import pytest

from daps_kit.errors import UserError
from daps_kit.recipe.training import load_training
from daps_kit.runs.train import train

pytestmark = pytest.mark.usefixtures("sums")


def test_a_recipe_in_python() -> None:
    recipe = load_training("recipes/sums.yaml")
    assert train(recipe, quiet=True).read_text() == "55"
    with pytest.raises(UserError, match="overrides change the text"):
        train(recipe, ["trainer.upto=3"])
