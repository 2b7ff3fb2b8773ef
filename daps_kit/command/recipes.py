"""`daps-kit recipes`: list the installed recipes, or copy one to be edited."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.errors import RecipeError
from daps_kit.recipe import installed_recipes, is_training, load_recipe
from daps_kit.recipe.copy import copy_recipe, headline
from daps_kit.recipe.resolved import components
from daps_kit.registry import default_registry
from daps_kit.weights.checkpoints import state

from .options import as_json, complete_recipes
from .terminal import print_json, print_table, say


@click.group("recipes", invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed recipes, and what has to be fetched for them; or copy one."""
    if context.invoked_subcommand:
        return
    found = [(name, headline(file), file, _absent(file)) for name, file in installed_recipes().items()]
    if as_json:
        print_json(
            [
                {"name": name, "summary": first, "path": str(file), "absent": list(absent)}
                for name, first, file, absent in found
            ]
        )
        return
    print_table(
        ("recipe", "summary"),
        [
            (name, f"{first} Not here: {', '.join(absent)}." if absent else first)
            for name, first, _, absent in found
        ],
    )
    if any(absent for *_, absent in found):
        say("\n`daps-kit checkpoints fetch NAME` brings what is not here")


def _absent(file: Path) -> tuple[str, ...]:
    """Return the names of the checkpoints that a recipe needs and that have not been fetched."""
    try:
        recipes = load_recipe(file)
    except RecipeError:  # of a training, or it says what is wrong when it is run
        return ()
    names = dict.fromkeys(name for recipe in recipes for c in components(recipe) for name in c.checkpoints())
    return tuple(default_registry().source(name).name for name in names if state(name) != "fetched")


@command.command("copy")
@click.argument("name", shell_complete=complete_recipes)
@click.argument("file", type=click.Path(path_type=Path))
def copy(name: str, file: Path) -> None:
    """Copy the installed recipe NAME to FILE, complete and with its comments, to be edited.

    Its results go to results/<name of FILE>.
    """
    written = copy_recipe(name, file, own_output=True)
    say(f"{written}: edit it, then `daps-kit {'train' if is_training(written) else 'run'} {written}`")
