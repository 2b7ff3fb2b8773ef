"""The page of a comparison: its tables and pictures in one file that needs nothing beside it.

It is made from comparison.md, so that the page says what the text says, with the templates of the report. It can be put
on a web server as it stands.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping

from daps_kit.report.page import render

__all__ = ["page"]

_MARKS = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<b>\1</b>"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"<i>\1</i>"),
)


def page(title: str, markdown: str, pictures: Mapping[str, str]) -> bytes:
    """Return index.html.

    Args:
        title: of the comparison.
        markdown: comparison.md.
        pictures: SVG by file name.
    """
    sections = list(_sections(markdown.splitlines()))
    return render("comparison.html", title=title, sections=sections, pictures=pictures)


def _sections(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield heading and HTML of each part of a text; the first, without a heading of its own, is its preface."""
    heading, held = "", list[str]()
    for line in lines:
        if line.startswith("# "):
            continue
        if line.startswith("## "):
            yield heading, "\n".join(_blocks(held))
            heading, held = line.removeprefix("## "), []
        else:
            held.append(line)
    yield heading, "\n".join(_blocks(held))


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """Yield tables, lists and paragraphs, as far as comparison.md has them."""
    for block in "\n".join(lines).split("\n\n"):
        rows = [line for line in block.splitlines() if line]
        if not rows:
            continue
        if rows[0].startswith("|"):
            yield _table(rows)
        elif rows[0].startswith("- "):
            yield "<ul>" + "".join(f"<li>{_inline(row.removeprefix('- '))}</li>" for row in rows) + "</ul>"
        else:
            yield f"<p>{_inline(' '.join(rows))}</p>"


def _table(rows: list[str]) -> str:
    cells = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("| -")
    ]
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in cells[0])
    body = "".join(
        f'<tr><th scope="row">{_inline(row[0])}</th>'
        + "".join(f"<td>{_inline(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in cells[1:]
    )
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_inline(cells[0][0])}">{table}</div>'


def _inline(text: str) -> str:
    found = html.escape(text, quote=False)
    for pattern, replacement in _MARKS:
        found = pattern.sub(replacement, found)
    return found
