"""`daps-kit recipes`: list the installed recipes, or copy one to be edited."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.recipe import installed_recipes, is_training
from daps_kit.recipe.copy import copy_recipe, headline

from .options import as_json, complete_recipes
from .terminal import print_json, print_table, say


@click.group("recipes", invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed recipes, or copy one."""
    if context.invoked_subcommand:
        return
    found = [(name, headline(file), file) for name, file in installed_recipes().items()]
    if as_json:
        print_json([{"name": name, "summary": first, "path": str(file)} for name, first, file in found])
    else:
        print_table(("recipe", "summary"), [(name, first) for name, first, _ in found])


@command.command("copy")
@click.argument("name", shell_complete=complete_recipes)
@click.argument("file", type=click.Path(path_type=Path))
def copy(name: str, file: Path) -> None:
    """Copy the installed recipe NAME to FILE, complete and with its comments, to be edited.

    Its results go to results/<name of FILE>.
    """
    written = copy_recipe(name, file, own_output=True)
    say(f"{written}: edit it, then `daps-kit {'train' if is_training(written) else 'run'} {written}`")
