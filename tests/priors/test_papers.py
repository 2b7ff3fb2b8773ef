"""Papers of priors."""

from __future__ import annotations

from daps_priors import daps_priors, papers
from tests.named_papers import see_that_papers_are_named


def test_each_is_named_by_something() -> None:
    see_that_papers_are_named(papers, daps_priors())
