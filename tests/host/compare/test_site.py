"""The page of a comparison: whole, self-contained, and saying what the text says."""

from __future__ import annotations

from html.parser import HTMLParser

from daps_kit.compare.site import page

TEXT = """# duel

3 images; **bold** is best, *success* a share of `some` samples with 2 * 3 < 7.

## What can be concluded

- identity: best by CRPS `few`.
- another: nothing.

## identity, 3 network calls

| sampler | CRPS |
| --- | ---: |
| few | **0.1** |
| <wide> | 0.2 * |
"""


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read() -> Reader:
    reader = Reader()
    reader.feed(page("du<el", TEXT, {"ranks.svg": "<svg><circle/></svg>"}).decode())
    return reader


def test_it_has_all_sections_tables_and_pictures() -> None:
    found = read()
    names = [tag for tag, _ in found.tags]
    assert names.count("table") == 1
    assert names.count("tr") == 3
    assert names.count("li") == 2
    assert names.count("svg") == 1
    assert [attrs["id"] for tag, attrs in found.tags if tag == "section"] == ["s0", "s1", "s2", "pictures"]
    assert "du<el" in found.text
    assert "<wide>" in found.text
    assert "0.2 *" in found.text
    assert "2 * 3 < 7" in found.text
    assert ("i", {}) in found.tags
    assert ("code", {}) in found.tags


def test_it_needs_nothing_beside_it() -> None:
    for tag, attrs in read().tags:
        assert "src" not in attrs, tag
        if tag == "a":
            assert (attrs["href"] or "").startswith("#")
        if tag == "link":
            assert attrs["href"] == "data:,"
