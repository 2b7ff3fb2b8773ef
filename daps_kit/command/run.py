"""`daps-kit run`: sample the posterior as a recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import plugin_files, quiet, recipe_arguments


@click.command("run")
@recipe_arguments
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder of the results (the setting `output`)."
)
@click.option(
    "--workers",
    metavar="N|auto",
    help="Compute in N processes, or as many as are best (execution: {use: processes, workers: N}).",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Draw the I-th of N parts alone, into a folder of its own; `daps-kit merge` joins them.",
)
@quiet
@plugin_files
def command(
    recipe: str,
    overrides: tuple[str, ...],
    output: Path | None,
    workers: str | None,
    shard: str | None,
    quiet: bool,
) -> None:
    """Run a RECIPE: a file or the name of an installed one.

    KEY=VALUE changes a setting, such as `runs=4` or `sampler.kernel.steps=50`. The same command again goes on where
    it was broken off.
    """
    if workers is not None:
        overrides = (*overrides, "execution.use=processes", f"execution.workers={workers}")
    if output is not None:
        overrides = (*overrides, f"output={json.dumps(str(output))}")
    from daps_kit.runs.runner import run  # which imports torch

    run(recipe, overrides, quiet=quiet, shard=shard)
