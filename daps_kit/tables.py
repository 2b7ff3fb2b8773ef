"""Tables as text: columns for a terminal or a log, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["markdown_row", "markdown_table", "text_table"]


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> list[str]:
    """Return the lines of a table: columns two spaces apart, the last `numbers` of them flush right."""
    first_number = len(headers) - numbers
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place >= first_number else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [headers, *rows]
    ]


def markdown_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int]
) -> list[str]:
    """Return the lines of a table in Markdown; its columns are flush right but for those counted in `left`."""
    rule = ["---" if place in left else "---:" for place in range(len(headers))]
    return [markdown_row(cells) for cells in (headers, rule, *rows)]


def markdown_row(cells: Sequence[str]) -> str:
    """Return a line of such a table."""
    return "| " + " | ".join(cells) + " |"
