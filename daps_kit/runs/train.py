"""A training, from recipe to weights; what is trained, and how, is the trainer's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.reading import content_of
from daps_kit.recipe import TrainingRecipe, load_training, plain_yaml, resolved_yaml
from daps_kit.trainer import launched

from .claim import Claim
from .training_progress import TrainingDisplay

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["train_recipe"]


def train_recipe(
    recipe: str | Path | TrainingRecipe,
    overrides: Iterable[str] = (),
    *,
    quiet: bool = False,
    console: Console | None = None,
) -> Path:
    """Train as a recipe says and return the file of weights; a training that was broken off goes on.

    Of the processes that torchrun starts, the first alone writes and reports; the others return when they are not
    needed any more.

    Raises:
        RecipeError: the recipe is wrong.
        UserError: something the user can put right, such as a folder that holds something else or in which another
            program is at work, or a trainer that torchrun is not for; the last checkpoint is intact.
        KeyboardInterrupt: broken off by the user; its text says how to go on.
    """
    if not isinstance(recipe, TrainingRecipe):
        recipe = load_training(recipe, overrides)
    elif list(overrides):
        raise UserError("overrides change the text of a recipe; give its file, not a recipe that was read")
    from rich.console import Console

    folder = recipe.trainer.output
    resolved = resolved_yaml(recipe, command="train")
    console = console or Console(stderr=True, soft_wrap=True, highlight=False, quiet=quiet)
    trainer = recipe.trainer.build()
    if place := launched():
        if not trainer.shared:
            raise UserError("this trainer trains in one process; run the same command without torchrun")
        if place.rank:
            return trainer.run()
    claim = Claim(folder, "trainer.output", "training")
    with claim.held() as fresh, TrainingDisplay(recipe.name, console) as report:
        before = None if fresh else _training_of(claim, resolved)
        write_atomic(claim.recipe, resolved.encode())
        try:
            weights = trainer.run(report)
        except UserError:
            # What was trained there belongs to the recipe that it was trained by.
            if before is not None and not report.images:
                write_atomic(claim.recipe, before)
            raise
        except KeyboardInterrupt:
            report.stop()
            raise KeyboardInterrupt(
                f"stopped at {report.images:,} images; the same command goes on from the last checkpoint in {folder}"
            ) from None
    report.say(f"weights: {weights}")
    return weights


def _training_of(claim: Claim, resolved: str) -> bytes:
    """Return the recipe of a folder that this training may go on in.

    Raises:
        UserError: the folder belongs to a run, to another trainer's training, or to something else.
    """
    try:
        text = content_of(claim.recipe)
        there, here = (plain_yaml(content, claim.recipe) for content in (text.decode(), resolved))
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{claim.key}: {claim.recipe} is damaged; choose another folder") from error
    if not text.startswith(b"# resolved by daps-kit") or not isinstance(there, dict):
        raise UserError(
            f"{claim.key}: {claim.recipe} is a recipe of your own, which would be written over; choose another folder"
        )
    if "trainer" not in there:
        raise UserError(f"{claim.key}: {claim.path} holds a run; choose another folder")
    if there["trainer"]["use"] != here["trainer"]["use"]:
        raise UserError(
            f"{claim.key}: {claim.path} holds the training of a {there['trainer']['use']}, not of a "
            f"{here['trainer']['use']}; choose another folder"
        )
    return text
