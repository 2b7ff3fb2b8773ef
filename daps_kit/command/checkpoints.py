"""`daps-kit checkpoints`: fetch, find, check and convert the files of published models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from daps_kit.errors import UserError
from daps_kit.registry import default_registry
from daps_kit.weights import checkpoints as store
from daps_kit.weights.fetch import fetch as fetch_checkpoint

from .terminal import print_table, say


@click.group("checkpoints")
def command() -> None:
    """Fetch, find, check and convert the files of published models."""


@command.command("list")
def list_command() -> None:
    """Show the checkpoints that can be fetched, and which are here."""
    rows = [(name, store.state(name), default_registry().source(name).about) for name in _names()]
    print_table(("checkpoint", "state", "what it is"), rows)
    say(f"\nkept in {store.cache_folder()} (DAPS_KIT_CACHE changes that)")


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names: tuple[str, ...]) -> None:
    """Download checkpoints; one that broke off goes on where it was."""
    for name in names:
        default_registry().source(name)
    for name in names:
        say(f"{name}: {_fetch(name)}")


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> None:
    """Compare checkpoints (all that are here, unless named) with the hashes recorded when they were fetched."""
    chosen = names or tuple(name for name in _names() if store.state(name) == "fetched")
    problems = []
    for name in chosen:
        problem = store.verify(name)
        say(f"{name}: {problem or 'as it was fetched'}")
        problems += [name] if problem else []
    if not chosen:
        say("no checkpoints have been fetched")
    if problems:
        raise UserError(
            f"{len(problems)} of {len(chosen)} checkpoints are not as they were fetched: {', '.join(problems)}"
        )


@command.command()
@click.argument("name")
def where(name: str) -> None:
    """Print the path of a checkpoint that has been fetched."""
    say(store.where(name))


@command.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    type=click.Choice(["auto", "ema", "raw"]),
    default="auto",
    show_default=True,
    help="The moving average of the weights, the last ones, or the average where there is one.",
)
def convert(source: Path, target: Path, weights: Any) -> None:
    """Write the tensors of a .ckpt, .pt or .pth file as .safetensors; nothing in the file is run."""
    from daps_kit.weights.tensors import convert as convert_file

    count = convert_file(source, target, weights=weights)
    say(f"{target}: {count} tensors")


def _names() -> list[str]:
    """Return what each checkpoint is to be called: by its bare name, unless two plugins offer that."""
    sources = default_registry().sources
    bare = [source.name for source in sources]
    return [source.name if bare.count(source.name) == 1 else source.qualified for source in sources]


def _fetch(name: str) -> Path:
    """Fetch with a progress bar, where somebody is watching."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        return fetch_checkpoint(name, lambda done, total: bar.update(task, completed=done, total=total))
