"""Papers of priors: each belongs to something that names it, and is known by its first author and its year."""

from __future__ import annotations

from daps_kit.settings import Paper
from daps_priors import daps_priors, papers


def test_each_is_named_by_something() -> None:
    there = {name: value for name, value in vars(papers).items() if isinstance(value, Paper)}
    settings = [*daps_priors()]
    named = {paper.key for each in settings for paper in each.papers}
    assert {paper.key for paper in there.values()} == named
    for name, paper in there.items():
        assert name.lower().replace("_", "") == paper.key
        author = paper.authors[0].partition(",")[0].casefold()
        assert paper.key == f"{author}{paper.year}"
