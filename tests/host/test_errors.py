"""Problems with their places, and words that were meant."""

from __future__ import annotations

import pytest

from daps_kit.errors import (
    Location,
    Problem,
    RecipeError,
    UserError,
    control_character,
    did_you_mean,
    printable,
)


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


def test_nothing_in_an_error_steers_the_terminal() -> None:
    bad = "a\x1b[31mb\r\n\x07\u202e\ud800\u2028é"
    shown = r"a\x1b[31mb\r\n\x07\u202e\ud800\u2028é"
    assert printable(bad) == shown
    assert str(UserError(bad)) == shown
    assert str(UserError("first", f"    {bad}")) == f"first\n    {shown}"
    assert str(RecipeError([Problem(bad, bad, Location(bad, 1, 2))])) == f"{shown}:1:2: {shown}: {shown}"
    long = str(UserError("x" * 10_000 + "end"))
    assert len(long) < 1600
    assert long.endswith("end")


def test_control_characters() -> None:
    assert [control_character(text) for text in ("aé \u202f\u200d", "a\tb", "\u2028", "\udcff", "\0")] == [
        "", "\t", "\u2028", "\udcff", "\0",
    ]  # fmt: skip
