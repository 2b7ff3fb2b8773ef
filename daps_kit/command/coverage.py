"""`daps-kit coverage`: do the samples of a recipe cover the truth as often as they say?"""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.recipe import load_recipe

from .options import plugin_files, quiet, recipe_arguments
from .terminal import say


@click.command("coverage")
@recipe_arguments
@click.option("--count", type=click.IntRange(2), default=16, show_default=True, help="How many truths.")
@click.option("--runs", type=click.IntRange(2), default=19, show_default=True, help="Samples of each.")
@click.option(
    "--images", is_flag=True, help="Take the recipe's own images for truths, not draws of its prior."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder; the recipe's with `-coverage` where not given."
)
@click.option(
    "--apply",
    "store",
    is_flag=True,
    help="Write into the recipe by how much its intervals are to be widened.",
)
@quiet
@plugin_files
def command(
    recipe: str,
    overrides: tuple[str, ...],
    count: int,
    runs: int,
    images: bool,
    output: Path | None,
    store: bool,
    quiet: bool,
) -> None:
    """Calibrate a RECIPE by simulation: draw truths, measure them as it says, sample, and rank the truths.

    \b
    daps-kit coverage embedded/down_sampling
    daps-kit coverage my.yaml --images --count 32 sampler.budget=accurate

    Right samples are exchangeable with a truth that was drawn from their prior, so that each of its ranks among them is
    equally often. Told for pixels, means of 8 x 8 pixels, random projections and whole images (TARP), with spread
    against error, in coverage.md, .json and .svg. Costs a run of COUNT images; the same command goes on where it was
    broken off.
    """
    from daps_kit.coverage.apply import apply, require_own
    from daps_kit.coverage.report import table  # which imports torch
    from daps_kit.coverage.simulate import simulate

    file = require_own(recipe, load_recipe(recipe, overrides)) if store else None
    for found in simulate(
        recipe, overrides, count=count, runs=runs, images=images, output=output, quiet=quiet
    ):
        say(table(found))
        if file is not None:
            apply(file, found.widen)
            say(f"{file}: widen: {found.widen:.3g}")
        say(f"picture: {found.path / 'coverage.svg'}")
