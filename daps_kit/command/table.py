"""`daps-kit table`: the paper's table out of result folders."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.errors import UserError
from daps_kit.runs.finished import find_results, read_result
from daps_kit.runs.table import csv_text, lines, markdown

from .terminal import say


@click.command("table")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS...")
@click.option(
    "--csv", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write it as CSV as well."
)
def command(results: tuple[Path, ...], file: Path | None) -> None:
    """Print a table of results as Markdown: mean, standard error, and the published number beside it.

    RESULTS are folders of runs, or folders with such folders anywhere below.
    """
    finished, unfinished = find_results(results)
    for folder in unfinished:
        say(f"left out, for the run is not finished: {folder}", err=True)
    if not finished:
        raise UserError("none of these runs is finished; run their recipes again")
    rows = lines(read_result(folder) for folder in finished)
    if not rows:
        raise UserError("these results have nothing to show: every sample was lost")
    if file is not None:
        try:
            file.write_text(csv_text(rows), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}") from error
    say(markdown(rows).rstrip())
