"""`daps-kit merge`: the parts of a run that were drawn by `daps-kit run --shard`, joined."""

from __future__ import annotations

from pathlib import Path

import click

from daps_kit.errors import UserError

from .options import quiet


@click.command("merge")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER... INTO")
@quiet
def command(folders: tuple[Path, ...], quiet: bool) -> None:
    """Join the FOLDERs of `daps-kit run --shard I/N` INTO one, and finish metrics, pictures and report.

    They are to be of one recipe and must not contradict each other. Where samples are missing, the others are brought
    all the same, and those are named.
    """
    if len(folders) < 2:
        raise UserError("give the folders to be joined, and last the folder to join them into")
    from daps_kit.runs.merge import merge  # which imports torch

    merge(folders[:-1], folders[-1], quiet=quiet)
