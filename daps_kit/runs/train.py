"""A training, from recipe to weights; what is trained, and how, is the trainer's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.recipe import TrainingRecipe, load_training, resolved_yaml

from .training_progress import TrainingDisplay

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["train_recipe"]

RECIPE = "recipe.yaml"
"""The resolved recipe, in the output folder."""


def train_recipe(
    recipe: str | Path | TrainingRecipe,
    overrides: Iterable[str] = (),
    *,
    quiet: bool = False,
    console: Console | None = None,
) -> Path:
    """Train as a recipe says and return the file of weights; a training that was broken off goes on.

    Raises:
        RecipeError: the recipe is wrong.
        UserError: something the user can put right; the last checkpoint is intact.
        KeyboardInterrupt: broken off by the user, who has been told how to go on.
    """
    if not isinstance(recipe, TrainingRecipe):
        recipe = load_training(recipe, overrides)
    elif list(overrides):
        raise UserError("overrides change the text of a recipe; give its file, not a recipe that was read")
    from rich.console import Console

    folder = recipe.trainer.output
    console = console or Console(stderr=True, soft_wrap=True, highlight=False, quiet=quiet)
    trainer = recipe.trainer.build()
    write_atomic(folder / RECIPE, resolved_yaml(recipe, command="train").encode())
    with TrainingDisplay(recipe.name, console) as report:
        try:
            weights = trainer.run(report)
        except KeyboardInterrupt:
            report.stop()
            report.say(
                f"stopped at {report.images:,} images; the same command goes on from the last checkpoint in {folder}"
            )
            raise
    report.say(f"weights: {weights}")
    return weights
