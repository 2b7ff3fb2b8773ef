"""`daps-kit new`: write a plugin to start from."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.scaffold.templates import KINDS
from daps_kit.scaffold.write import write_plugin
from daps_kit.settings import Kind

from .terminal import say


@click.command("new")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the plugin's folder is made; the working folder where not given.",
)
def command(kind: Kind, name: str, folder: Path) -> None:
    """Write a new plugin with a component called NAME: settings, implementation, tests, README and a recipe."""
    root = write_plugin(kind, name, folder)
    say(f"{root}: a plugin that works; next:")
    say(f"  pip install -e '{root}[test]'")
    say(f"  pytest {root}")
    say(f"  daps-kit run {root / 'recipe.yaml'}")
