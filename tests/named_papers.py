"""What the papers of a package of components have in common."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from daps_kit.settings import Paper


def see_that_papers_are_named(papers: ModuleType, settings: Iterable[Any]) -> None:
    """See that each paper belongs to settings that name it, and is known by its first author and its year."""
    there = {name: value for name, value in vars(papers).items() if isinstance(value, Paper)}
    named = {paper.key for each in settings for paper in getattr(each, "papers", ())}
    assert {paper.key for paper in there.values()} == named
    for name, paper in there.items():
        assert name.lower().replace("_", "") == paper.key
        author = paper.authors[0].partition(",")[0].casefold()
        assert paper.key == f"{author}{paper.year}"
