"""`daps-kit check`: validate a recipe, or print it with every default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from daps_kit.errors import Problem, RecipeError
from daps_kit.recipe import is_training, load_recipe, load_training, resolved_yaml

from .options import as_json, recipe_arguments
from .terminal import print_json, print_yaml


@click.command("check")
@recipe_arguments
@click.option("--resolved", is_flag=True, help="Print the recipe with every default written out.")
@as_json
def command(recipe: str, overrides: tuple[str, ...], resolved: bool, as_json: bool) -> None:
    """Validate a RECIPE without running it; every problem is listed."""
    training = is_training(recipe)
    found: list[tuple[str, Path, Any]]
    try:
        if training:
            trained = load_training(recipe, overrides)
            found = [(trained.name, trained.trainer.output, trained)]
        else:
            found = [(each.name, each.output, each) for each in load_recipe(recipe, overrides)]
    except RecipeError as error:
        if not as_json:
            raise
        print_json({"valid": False, "problems": [_problem(problem) for problem in error.problems]})
        raise click.exceptions.Exit(2) from None
    if as_json:
        names = [{"name": name, "output": output} for name, output, _ in found]
        print_json({"valid": True, "recipes": names, "problems": []})
    elif resolved:
        by = "train" if training else "run"
        print_yaml("---\n".join(resolved_yaml(each, command=by) for *_, each in found))
    else:
        for name, output, _ in found:
            click.echo(f"{name}: valid; results go to {output}")


def _problem(problem: Problem) -> dict[str, Any]:
    place = problem.location
    where = {"file": str(place.file), "line": place.line, "column": place.column} if place else {}
    return {"message": problem.message, "path": problem.path, **where}
