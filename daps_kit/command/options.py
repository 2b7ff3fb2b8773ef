"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = [
    "as_json",
    "complete_components",
    "complete_recipes",
    "multirun",
    "plugin_files",
    "prior_argument",
    "quiet",
    "recipe_arguments",
]


def _open_plugins(ctx: click.Context, param: click.Parameter, files: tuple[Path, ...]) -> None:
    """Execute files of Python, for as long as the command lasts."""
    if files and not ctx.resilient_parsing:
        from daps_kit.registry import default_registry

        ctx.with_resource(default_registry().extended(files=[file.absolute() for file in files]))


def complete_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the installed recipes that begin so; files are completed by the shell where there are none."""
    from daps_kit.recipe import installed_recipes

    found = [CompletionItem(name) for name in installed_recipes() if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def complete_components(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the components that begin so, as KIND/NAME."""
    from daps_kit.registry import default_registry

    names = [f"{c.kind}/{c.name}" for c in default_registry().components()]
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


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
multirun = click.option(
    "--multirun",
    "-m",
    is_flag=True,
    help="KEY=A,B stands for a run with each of the values, and several such for all combinations.",
)
quiet = click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
prior_argument = click.argument(
    "prior", nargs=-1, required=True, metavar="PRIOR|SECTION|RECIPE [KEY=VALUE]..."
)


def recipe_arguments(command: Any) -> Any:
    """Give a command the arguments RECIPE and KEY=VALUE, `recipe` and `overrides`."""
    overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    return click.argument("recipe", shell_complete=complete_recipes)(overrides(command))
