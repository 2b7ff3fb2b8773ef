"""Papers that components name, for the citations of a run and of `daps-kit show`.

class Sharpen(OperatorSettings):
    name = "sharpen"
    papers = (Paper("polesel2000", "Image enhancement via adaptive unsharp masking",
                    ("Polesel, Andrea", "Ramponi, Giovanni", "Mathews, V. John"), 2000,
                    journal="IEEE Transactions on Image Processing", doi="10.1109/83.826787"),)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Paper", "bibtex", "distinct"]

_ESCAPES = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}}


@dataclass(frozen=True)
class Paper:
    """A published work.

    Attributes:
        key: what `\\cite` calls it.
        title: of the work, its capitals kept.
        authors: "Last, First" each; "{Name}" of an organisation; at the end "others" for those who are not listed.
        year: of publication.
        journal, booktitle, publisher: where it appeared: a journal, a conference's proceedings or a collection, or the
            publisher of a book. None of them for a preprint or software.
        arxiv, doi, url: where it is found.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    journal: str = ""
    booktitle: str = ""
    publisher: str = ""
    arxiv: str = ""
    doi: str = ""
    url: str = ""

    @property
    def kind(self) -> str:
        """The type of its BibTeX entry."""
        kinds = {"article": self.journal, "inproceedings": self.booktitle, "book": self.publisher}
        return next((kind for kind, there in kinds.items() if there), "misc")

    @property
    def link(self) -> str:
        """An address to read it at; empty where none is known."""
        found = {"https://doi.org/": self.doi, "https://arxiv.org/abs/": self.arxiv, "": self.url}
        return next((start + name for start, name in found.items() if name), "")

    def bibtex(self) -> str:
        """Return its BibTeX entry; braces keep the capitals of the title."""
        fields = {
            "title": f"{{{_escaped(self.title)}}}",
            "author": " and ".join(map(_author, self.authors)),
            "journal": _escaped(self.journal),
            "booktitle": _escaped(self.booktitle),
            "publisher": _escaped(self.publisher),
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
            "doi": self.doi,
            "url": self.url,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])

    def __str__(self) -> str:
        names = [author.partition(",")[0].strip("{}") for author in self.authors]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        where = self.journal or self.booktitle or self.publisher
        found = f"doi {self.doi}" if self.doi else f"arXiv {self.arxiv}" if self.arxiv else self.url
        told = [who, f'"{self.title}"', where, str(self.year), found]
        return ", ".join(text for text in told if text)


def _author(name: str) -> str:
    return f"{{{_escaped(name[1:-1])}}}" if name.startswith("{") and name.endswith("}") else _escaped(name)


def _escaped(text: str) -> str:
    return re.sub(r"[\\&%$#_{}]", lambda sign: _ESCAPES[sign[0]], text)


def distinct(papers: Iterable[Paper]) -> list[Paper]:
    """Return each paper once, in their order: those of the same place (DOI, arXiv or title) are the same."""
    found: dict[str, Paper] = {}
    for paper in papers:
        found.setdefault(paper.doi or paper.arxiv or paper.title.casefold(), paper)
    return list(found.values())


def bibtex(papers: Iterable[Paper]) -> str:
    """Return the entries of papers, each once; keys that two share get a letter."""
    entries, taken = [], set[str]()
    for paper in distinct(papers):
        names = (paper.key, *(f"{paper.key}{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"))
        key = next(name for name in names if name not in taken)
        taken.add(key)
        entries.append(paper.bibtex().replace(f"{{{paper.key},", f"{{{key},", 1))
    return "\n\n".join(entries)
