"""`daps-kit check`: find what a run of a recipe would find before it samples, or print it with every default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daps_kit.errors import Problem, RecipeError
from daps_kit.recipe import Recipe, is_training, load_recipe, load_training, resolved_yaml
from daps_kit.recipe.sweep import Search, Sweep, load_sweep

from .options import as_json, multirun, plugin_files, recipe_arguments
from .terminal import print_json, print_yaml, say

if TYPE_CHECKING:
    from daps_kit.runs.examine import Finding


@click.command("check")
@recipe_arguments
@multirun
@click.option("--quick", is_flag=True, help="Look at the text alone: no file that it names is opened.")
@click.option("--resolved", is_flag=True, help="Print the recipe with every default written out.")
@as_json
@plugin_files
def command(
    recipe: str, overrides: tuple[str, ...], multirun: bool, quick: bool, resolved: bool, as_json: bool
) -> None:
    """Find what a run of a RECIPE would find before it samples; every problem is listed.

    The prior, the operator and the sampler are built, and the data are read and measured, for about a second; what was
    not looked at is said. Nothing is written. Of a recipe with a `sweep` every point is looked at, of one with a
    `search` those with each value and each end of a range.
    """
    training, sweep = is_training(recipe), None
    found: list[tuple[str, Path, Any]]
    try:
        if training:
            trained = load_training(recipe, overrides)
            found = [(trained.name, trained.trainer.output, trained)]
        else:
            sweep = load_sweep(recipe, overrides, multirun=multirun)
            recipes = load_recipe(recipe, overrides) if sweep is None else _points(sweep)
            found = [(each.name, each.output, each) for each in recipes]
    except RecipeError as error:
        if not as_json:
            raise
        print_json({"valid": False, "problems": [_problem(problem) for problem in error.problems]})
        raise click.exceptions.Exit(2) from None
    looked = [] if quick or resolved or training else _examine([each for *_, each in found], sweep)
    wrong = [finding for finding in looked if finding.kind == "error"]
    if as_json:
        names = [{"name": name, "output": output} for name, output, _ in found]
        told = {kind: [_told(f) for f in looked if f.kind == kind[:-1]] for kind in ("errors", "warnings")}
        skipped = [_told(f) for f in looked if f.kind == "unseen"]
        print_json({"valid": not wrong, "recipes": names, "problems": [], **told, "unseen": skipped})
    elif resolved:
        by = "train" if training else "run"
        print_yaml("---\n".join(resolved_yaml(each, command=by) for *_, each in found))
    else:
        for finding in looked:
            if finding.kind != "unseen":
                of = f"{finding.recipe}: " if len(found) > 1 else ""
                say(f"{finding.kind}: {of}{finding.text}", err=True)
        unseen = dict.fromkeys(finding.text for finding in looked if finding.kind == "unseen")
        if unseen:
            say(f"not looked at: {'; '.join(unseen)}", err=True)
        for name, output, _ in found:
            if name not in {finding.recipe for finding in wrong}:
                say(
                    f"{name}: valid{'; `daps-kit train` trains it' if training else ''}; results go to {output}"
                )
    if wrong:
        raise click.exceptions.Exit(2)


def _points(sweep: Sweep | Search) -> list[Recipe]:
    """Return the recipes of all points of a sweep; of a search those with each value and each end of a range."""
    points = sweep.ends() if isinstance(sweep, Search) else sweep.points
    return [recipe for point in points for recipe in point.recipes]


def _examine(recipes: list[Recipe], sweep: Sweep | Search | None) -> list[Finding]:
    from daps_kit.runs.examine import SECONDS, examine  # imports torch
    from daps_kit.runs.sweep import require_objective

    if isinstance(sweep, Search):
        require_objective(sweep)
    return examine(recipes, SECONDS if sweep is None else 0.0)  # of each point one item is looked at


def _told(finding: Finding) -> dict[str, str]:
    return {"recipe": finding.recipe, "message": finding.text}


def _problem(problem: Problem) -> dict[str, Any]:
    place = problem.location
    where = {"file": str(place.file), "line": place.line, "column": place.column} if place else {}
    return {"message": problem.message, "path": problem.path, **where}
