"""`daps-kit compare`: samplers on the same images, measurements, noise and priors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import plugin_files, quiet
from .terminal import say


@click.command("compare")
@click.argument("comparison", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the tables and of every cell.")
@quiet
@plugin_files
def command(comparison: Path, overrides: tuple[str, ...], output: Path | None, quiet: bool) -> None:
    """Compare samplers as the file COMPARISON says.

    \b
    format: 1
    images: {use: images, path: faces/*.png}
    priors: [{use: embedded}]
    operators: [embedded/down_sampling, {use: identity}]
    samplers: [{use: daps}, {use: dps, zeta: 0.3}]
    budgets: [20, 100]                   # network calls of a sample
    runs: 8

    Every sampler on every task at every budget is a run folder, on the same measurements; the same command goes on
    where it was broken off. Tables with paired intervals, ranks and fronts are comparison.md, .csv and .tex and
    pictures in the folder of the comparison, results/<name> if not given, and all of it is index.html.

    `posteriors` lists tasks whose posterior is known, and `tuning` searches settings on images of their own.
    """
    from daps_kit.compare.document import load_comparison

    if output is not None:
        overrides = (*overrides, f"output={json.dumps(str(output))}")
    found = load_comparison(comparison, overrides)

    from daps_kit.compare.arena import fight  # which imports torch
    from daps_kit.compare.report import write

    write(found, fight(found, quiet=quiet))
    say(f"tables: {found.output / 'comparison.md'}")
