"""What is said of samplers from the same images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from daps_kit.compare.statistics import best_and_tied, critical_difference, front, interval, mean_ranks


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).normal(3.0, 2.0, (300, 40))
    found = [interval(row.tolist()) for row in draws]
    held = np.mean([low <= 3.0 <= high for low, high in found])
    assert held == pytest.approx(0.95, abs=0.045)
    widths = np.mean([high - low for low, high in found])
    assert widths == pytest.approx(2 * norm.ppf(0.975) * 2 / 40**0.5, rel=0.06)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_of_too_little_there_is_no_interval(values: list[float]) -> None:
    assert all(map(math.isnan, interval(values)))


def test_pairs_tell_apart_what_intervals_of_their_own_do_not() -> None:
    hard = np.random.default_rng(2).normal(25, 4, 10)
    noise = np.random.default_rng(3).normal(0, 0.1, (2, 10))
    table = {
        "a": (hard + 0.5 + noise[0]).tolist(),
        "b": (hard + noise[1]).tolist(),
        "c": (hard + 0.5 - noise[0]).tolist(),
        "lost": [99.0, math.nan, *hard[2:]],
    }
    (low, _), (_, high) = interval(table["a"]), interval(table["b"])
    assert low < high, "their intervals overlap"
    best, tied = best_and_tied(table, 1)
    assert {best, *tied} == {"a", "c"}
    assert best_and_tied(table, -1) == ("b", [])
    assert best_and_tied({"a": [2.0], "b": [1.0]}, 1) == ("a", [])
    assert best_and_tied({"a": [math.nan], "b": []}, 1) == ("", [])


def test_ranks_share_places_and_put_what_failed_last() -> None:
    table = {"a": [1.0, 5.0, 2.0], "b": [2.0, 5.0, math.nan], "c": [3.0, 4.0, 1.0]}
    assert mean_ranks(table, 1) == pytest.approx({"a": (3 + 1.5 + 1) / 3, "b": (2 + 1.5 + 3) / 3, "c": 2.0})
    assert mean_ranks(table, -1)["a"] == pytest.approx((1 + 2.5 + 2) / 3)


def test_the_critical_difference_is_that_of_the_tables() -> None:
    """Demsar 2006, table 5: q of Nemenyi's test is 1.960, 2.343, 2.569 for 2, 3 and 4; his example has CD 1.25."""
    for samplers, q in ((2, 1.960), (3, 2.343), (4, 2.569), (10, 3.164)):
        wanted = q * math.sqrt(samplers * (samplers + 1) / (6 * 14))
        assert critical_difference(samplers, 14) == pytest.approx(wanted, rel=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    assert critical_difference(4, 1) == math.inf


def test_a_front_holds_what_is_not_beaten() -> None:
    points = {
        "cheap": (1.0, 20.0),
        "worse": (2.0, 19.0),
        "good": (5.0, 25.0),
        "dear": (9.0, 25.0),
        "best": (10.0, 26.0),
    }
    assert front(points) == ["cheap", "good", "best"]
    assert front({"a": (1.0, 2.0), "b": (1.0, 3.0)}) == ["b"]
