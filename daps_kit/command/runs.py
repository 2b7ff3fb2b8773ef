"""`daps-kit runs`: the results folders, how far each is, and its first numbers."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.runs.states import run_states

from .options import as_json
from .terminal import print_json, print_table, say


@click.command("runs")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[FOLDER]...")
@as_json
def command(folders: tuple[Path, ...], as_json: bool) -> None:
    """List the runs in FOLDERs, or anywhere below (results, if none is given): how far each is, and its numbers."""
    found = [state for folder in folders or (Path("results"),) for state in run_states(folder)]
    if as_json:
        print_json([vars(state) for state in found])
    elif found:
        rows = [(str(state.folder), state.state, state.numbers) for state in found]
        print_table(("folder", "state", "numbers"), rows)
    else:
        say("no runs there")
