"""`daps-kit schema`: the JSON Schema of recipes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from daps_kit.errors import UserError
from daps_kit.recipe.schema import recipe_schema

from .options import plugin_files


@click.command("schema")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@plugin_files
def command(output: Path | None) -> None:
    """Print the JSON Schema of recipes, for completion and checks in an editor."""
    text = json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from None
