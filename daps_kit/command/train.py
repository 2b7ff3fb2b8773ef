"""`daps-kit train`: train a network as a recipe with a `trainer` says."""

from __future__ import annotations

import click

from daps_kit.runs.train import train_recipe

from .options import plugin_files, quiet, recipe_arguments


@click.command("train")
@recipe_arguments
@quiet
@plugin_files
def command(recipe: str, overrides: tuple[str, ...], quiet: bool) -> None:
    """Train a prior, or another network, by a RECIPE with a `trainer`.

    KEY=VALUE changes a setting, such as `trainer.images=photos`. The same command again goes on where it was broken
    off; with a larger `trainer.images_seen` it trains a finished network further.
    """
    train_recipe(recipe, overrides, quiet=quiet)
