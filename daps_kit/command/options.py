"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["as_json", "plugin_files", "prior_argument", "quiet", "recipe_arguments"]


def _open_plugins(ctx: click.Context, param: click.Parameter, files: tuple[Path, ...]) -> None:
    """Execute files of Python, for as long as the command lasts."""
    if files and not ctx.resilient_parsing:
        from daps_kit.registry import default_registry

        ctx.with_resource(default_registry().extended(files=[file.absolute() for file in files]))


plugin_files = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    expose_value=False,
    is_eager=True,
    callback=_open_plugins,
    help="Execute a file of Python that brings components; may be given several times.",
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet = click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
prior_argument = click.argument(
    "prior", nargs=-1, required=True, metavar="PRIOR|SECTION|RECIPE [KEY=VALUE]..."
)


def recipe_arguments(command: Any) -> Any:
    """Give a command the arguments RECIPE and KEY=VALUE, `recipe` and `overrides`."""
    overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    return click.argument("recipe")(overrides(command))
