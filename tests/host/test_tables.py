"""Tables as text, line by line."""

from __future__ import annotations

from daps_kit.tables import markdown_table, text_table

ROWS = [("a", "1.5", "10"), ("long", "", "2")]


def test_columns_of_a_text() -> None:
    assert text_table(("name", "x", "y"), ROWS) == ["name  x    y", "a     1.5  10", "long       2"]
    assert text_table(("", "x", "y"), ROWS, numbers=2) == ["        x   y", "a     1.5  10", "long        2"]
    assert text_table(("name",), []) == ["name"]


def test_columns_of_markdown() -> None:
    assert markdown_table(("name", "x", "y"), ROWS, left=[0]) == [
        "| name | x | y |",
        "| --- | ---: | ---: |",
        "| a | 1.5 | 10 |",
        "| long |  | 2 |",
    ]
