"""`daps-kit run`: sample the posterior as a recipe says."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import click

from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.sweep import load_sweep

from .options import multirun, plugin_files, quiet, recipe_arguments


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
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Compute with the workers of a dask scheduler (execution: {use: dask, scheduler: ...}).",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Draw the I-th of N parts alone, into a folder of its own; `daps-kit merge` joins them.",
)
@click.option(
    "--name", help="Name of the run (the setting `name`), and of its folder where that is not given."
)
@multirun
@click.option("--fresh", is_flag=True, help="Begin a new folder, numbered, beside one that is there.")
@click.option("--open", "show", is_flag=True, help="Show the page of the run, or its picture, in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print what happens as JSON, an event a line.")
@quiet
@plugin_files
def command(
    recipe: str,
    overrides: tuple[str, ...],
    output: Path | None,
    workers: str | None,
    scheduler: str | None,
    shard: str | None,
    name: str | None,
    multirun: bool,
    fresh: bool,
    show: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a RECIPE: a file or the name of an installed one.

    KEY=VALUE changes a setting, such as `runs=4` or `sampler.kernel.steps=50`. The same command again goes on where
    it was broken off. A recipe with a `sweep` or a `search` is run at each of its points.
    """
    if workers is not None:
        overrides = (*overrides, "execution.use=processes", f"execution.workers={workers}")
    if scheduler is not None:
        if workers is not None:
            raise UserError("--workers and --scheduler: a scheduler has its own workers; give one of the two")
        overrides = (*overrides, "execution.use=dask", f"execution.scheduler={json.dumps(scheduler)}")
    if name is not None:
        overrides = (*overrides, f"name={json.dumps(name)}")
    if output is not None:
        overrides = (*overrides, f"output={json.dumps(str(output))}")
    if fresh:
        overrides = (*overrides, f"output={json.dumps(str(_numbered(recipe, overrides, multirun)))}")
    from daps_kit.runs.sweep import run  # which imports torch

    if as_json:
        from daps_kit.runs.events import EventDisplay

        events = EventDisplay(click.echo)
        try:
            with events:
                result = run(recipe, overrides, multirun=multirun, progress=events, shard=shard)
        except (UserError, KeyboardInterrupt) as error:
            events.failed(str(error))
            raise
        events.end(result.path, result.grid)
    else:
        result = run(recipe, overrides, multirun=multirun, quiet=quiet, shard=shard)
    if show:
        import webbrowser

        page = result.path / "report.html"
        webbrowser.open((page if page.is_file() else result.grid).absolute().as_uri())


def _numbered(recipe: str, overrides: tuple[str, ...], multirun: bool) -> Path:
    """Return the folder of a recipe if it is not there yet, or the first of those numbered after it."""
    if found := load_sweep(recipe, overrides, multirun=multirun):
        base = found.output
    else:
        folders = [each.output for each in load_recipe(recipe, overrides)]
        base = (
            folders[0] if len(folders) == 1 else Path(os.path.commonpath([each.parent for each in folders]))
        )
    choices = (base if count == 1 else base.with_name(f"{base.name}-{count}") for count in itertools.count(1))
    return next(folder for folder in choices if not folder.exists())
