"""The noise levels of a run."""

from __future__ import annotations

import pytest

from daps_samplers.annealing import Annealing
from daps_samplers.schedules import VE


def test_levels_run_from_the_first_to_the_last_sigma_in_the_ratio_of_the_schedule():
    assert Annealing(VE(), 4, 8.0, 1.0).sigmas() == pytest.approx([8, 4, 2, 1])
    # As published: a grid of one more point, without its last.
    assert Annealing(VE(), 3, 8.0, 1.0, reach_sigma_min=False).sigmas() == pytest.approx([8, 4, 2])


def test_both_ends_stay_where_the_prior_is_valid():
    assert Annealing(VE(), 3, 100.0, 0.01).sigmas((0.5, 8.0)) == pytest.approx([8, 2, 0.5])
    assert Annealing(VE(), 3, 4.0, 1.0).sigmas((0.5, 8.0)) == pytest.approx([4, 2, 1])


@pytest.mark.parametrize(
    ("levels", "high", "low"), [(0, 8.0, 1.0), (3, 1.0, 1.0), (3, 1.0, 2.0), (3, 1.0, 0.0), (3, 1.0, -1.0)]
)
def test_impossible_levels_are_refused(levels, high, low):
    with pytest.raises(ValueError, match="need levels >= 1 and sigma_max > sigma_min > 0"):
        Annealing(VE(), levels, high, low)


def test_one_level_and_open_ends_are_possible():
    assert Annealing(VE(), 1, 8.0, 1.0).sigmas() == [8.0]
    with pytest.raises(ValueError, match="must be decided first"):
        Annealing(VE(), 3, None, 0.1).sigmas()
    with pytest.raises(ValueError, match="must be decided first"):
        Annealing(VE()).sigmas()
