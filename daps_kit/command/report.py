"""`daps-kit report`: the page of a run, or of several side by side."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.errors import UserError

from .terminal import say


@click.command("report")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER...")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of the page; report.html in the FOLDER, or here for several, if not given.",
)
def command(folders: tuple[Path, ...], output: Path | None) -> None:
    """Write the page of a finished run, which a browser shows without a network: report.html in its FOLDER.

    Several FOLDERs are shown side by side: what differs in their settings, and the differences on the images that they
    share, the first subtracted from the others. A FOLDER may hold folders of runs, anywhere below.
    """
    from daps_kit.runs.finished import find_results

    finished, unfinished = find_results(folders)
    for folder in unfinished:
        say(f"left out, for the run is not finished: {folder}", err=True)
    if not finished:
        raise UserError("none of these runs is finished; run their recipes again")
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output {output}: the name of a page ends in .html")
    from daps_kit.report.page import write_report, write_side_by_side  # which import torch

    if len(finished) == 1 and output is None:
        say(write_report(finished[0]))
    else:
        say(write_side_by_side(finished, output or Path("report.html")))
