"""Failures as sentences: each sample by its name, what is alike in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from daps_kit.failures import Cause, Failure, told

LOST = Failure(0, 2, 10, 0.5, "diverged", "take smaller steps")
DOUBT = Failure(1, 9, 10, 0.1, "residual", "try another run", 2.345)


def test_a_sentence_says_where_why_and_what_helps() -> None:
    assert str(LOST) == "lost at level 3 of 10 (sigma 0.5): the chain diverged; take smaller steps"
    assert str(replace(LOST, advice="")) == "lost at level 3 of 10 (sigma 0.5): the chain diverged"
    assert "2.35 standard deviations of the noise; try another run" in str(DOUBT)


@pytest.mark.parametrize("cause", get_args(Cause))
def test_every_cause_has_its_sentence(cause: Cause) -> None:
    failure = replace(LOST, cause=cause, size=1.5)
    assert failure.lost == str(failure).startswith("lost at level 3 of 10 (sigma 0.5): ")
    # Where a worker is gone nobody knows the level.
    nowhere = replace(failure, level=0, levels=0, sigma=0.0)
    assert failure.lost == str(nowhere).startswith("lost: ")
    assert "level" not in str(nowhere) or cause == "mode"
    assert failure.lost != ("1.5" in str(failure))
    assert str(failure).endswith("; take smaller steps")


def test_samples_that_share_a_fate_share_a_line() -> None:
    names = ["ash, sample 1", "ash, sample 2", "birch, sample 1"]
    lines = told([LOST, replace(LOST, sample=2), replace(DOUBT, size=1.2), replace(DOUBT, sample=2)], names)
    assert lines == [
        f"ash, sample 1; birch, sample 1: {LOST}",
        f"ash, sample 2; birch, sample 1: {DOUBT}",
    ]
    later = replace(LOST, sample=1, level=3)
    assert told([LOST, later], names) == [f"ash, sample 1: {LOST}", f"ash, sample 2: {later}"]


def test_what_is_doubted_at_many_levels_is_told_once_with_the_worst() -> None:
    doubts = [
        replace(DOUBT, sample=level % 3, level=level, sigma=1.0 / (level + 1), size=1 + level / 10)
        for level in range(20)
    ]
    names = ["ash, sample 1", "ash, sample 2", "birch, sample 1"]
    assert told(doubts, names) == [
        f"ash, sample 1; ash, sample 2; birch, sample 1: {replace(DOUBT, size=2.9)}"
    ]


def test_a_line_names_four_samples_at_most() -> None:
    (line,) = told([replace(LOST, sample=b) for b in range(6)], [f"s{b}" for b in range(6)])
    assert line.startswith("s0; s1; s2; s3 and 2 more: lost at")
