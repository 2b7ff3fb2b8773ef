"""Problems with their places, and words that were meant."""

from __future__ import annotations

import pytest

from daps_kit.errors import Location, Problem, RecipeError, did_you_mean


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("gausian", "; did you mean 'Gaussian'?"), ("LANGEVIN", "; did you mean 'langevin'?"),
        ("pha", "; did you mean 'phase_retrieval'?"), ("ph", ""), ("quite else", ""), ("", ""),
    ],
)  # fmt: skip
def test_did_you_mean(word: str, hint: str) -> None:
    assert did_you_mean(word, ["Gaussian", "langevin", "phase_retrieval"]) == hint


def test_problems_are_listed_once_and_in_the_order_of_the_text() -> None:
    one = Problem("wrong", "a.b", Location("r.yaml", 10, 2))
    two = Problem("also wrong", "a", Location("r.yaml", 9, 30))
    nowhere = Problem("no recipe")
    error = RecipeError([one, two, nowhere, one])
    assert error.problems == (nowhere, two, one)
    assert str(error) == "no recipe\nr.yaml:9:30: a: also wrong\nr.yaml:10:2: a.b: wrong"
