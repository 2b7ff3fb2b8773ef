"""What commands print: tables, JSON, and problems, for a terminal or for a pipe."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from daps_kit.errors import printable
from daps_kit.tables import text_table

__all__ = ["print_json", "print_table", "print_yaml", "say"]


def say(text: object = "", *, err: bool = False) -> None:
    """Print lines, of which nothing steers the terminal; with `err` where errors go, as far as anyone can be told."""
    with contextlib.suppress(*[OSError] * err):
        click.echo("\n".join(printable(line) for line in str(text).split("\n")), err=err)


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()  # it is None where it was closed


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo("".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, else a line for each row with columns two spaces apart."""
    if _on_terminal():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(*headers, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        table.columns[0].no_wrap = True
        for row in rows:
            table.add_row(*(printable(cell).replace("[", "\\[") for cell in row))
        Console().print(table)
        return
    for line in text_table(headers, rows):
        say(line)


def print_yaml(text: str) -> None:
    """Print YAML, in colours on a terminal."""
    if _on_terminal():
        from rich.console import Console
        from rich.syntax import Syntax

        Console().print(Syntax(text, "yaml", background_color="default"))
    else:
        click.echo(
            text.rstrip()
        )  # as it is, for it may become a recipe; what steers terminals is escaped in it
