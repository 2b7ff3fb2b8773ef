"""Arguments and options that several commands take."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["as_json", "prior_argument", "quiet", "recipe_arguments"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet = click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
prior_argument = click.argument(
    "prior", nargs=-1, required=True, metavar="PRIOR|SECTION|RECIPE [KEY=VALUE]..."
)


def recipe_arguments(command: Any) -> Any:
    """Give a command the arguments RECIPE and KEY=VALUE, `recipe` and `overrides`."""
    overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    return click.argument("recipe")(overrides(command))
