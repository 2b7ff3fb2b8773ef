"""Whether a result explains the measurement: where the line is, and for whom."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from daps_kit.contracts import GaussianNoise, Operator
from daps_samplers.explained import Explained


class Telling(Operator):
    """Has the residuals that the images say: their first number."""

    def __init__(self, *, many_modes: bool = False, observed: torch.Tensor | None = None) -> None:
        super().__init__((1, 1, 1), GaussianNoise(0.1))
        self.many_modes, self.observed = many_modes, observed

    def forward(self, x):
        return x

    def residual(self, x, y):
        return x.flatten(1)[:, 0]


def doubts(residuals, operator, size, *, seen=(), alive=None):
    y = torch.zeros(len(residuals), 1, 1, size)
    explained = Explained(operator, y)
    for each in seen:
        explained.see(torch.tensor(each).reshape(-1, 1, 1, 1))
    alive = torch.ones(len(residuals), dtype=torch.bool) if alive is None else torch.tensor(alive)
    x = torch.tensor(residuals).reshape(-1, 1, 1, 1)
    return explained.doubts(x, alive, 3, 5, 0.1)


@pytest.mark.parametrize(
    ("size", "bound"),
    [
        (200, sqrt(1 + 5 * sqrt(2 / 200))),  # five standard deviations of the mean square
        (2, sqrt(6)),
        (10**6, 1.1),  # which are less than the 10 % that are left to the prior
    ],
)
def test_the_line_is_at_five_standard_deviations_of_chance_or_ten_per_cent(size, bound):
    told = doubts([bound + 0.001, bound - 0.001, 0.0, 9.0], Telling(), size)
    assert [(each.sample, each.cause, each.lost) for each in told] == [
        (0, "residual", False),
        (3, "residual", False),
    ]
    assert [each.size for each in told] == pytest.approx([bound + 0.001, 9.0])
    assert {(each.level, each.levels, each.sigma) for each in told} == {(3, 5, 0.1)}


def test_only_what_is_observed_counts():
    observed = torch.zeros(2, 1, 1, 400)
    observed[0, ..., :200] = 1
    observed[1, ..., :50] = 1
    bound = sqrt(1 + 5 * sqrt(2 / 50))  # the least that any sample has
    assert len(doubts([bound + 0.001, bound - 0.001], Telling(observed=observed), 400)) == 1


def test_lost_samples_are_not_doubted():
    assert [each.sample for each in doubts([9.0, 9.0], Telling(), 200, alive=[False, True])] == [1]


def test_a_wrong_mode_is_one_that_no_level_explains():
    """With many modes it is the least residual of all levels that tells, however small the last one."""
    chance = sqrt(1 + 5 * sqrt(2 / 10**6))
    seen = [[chance + 0.01, chance - 0.01, chance - 0.01, float("nan")], [chance + 0.001, 3.0, 3.0, 1.0]]
    told = doubts([chance + 0.001, 1.09, 1.2, 1.0], Telling(many_modes=True), 10**6, seen=seen)
    assert [(each.sample, each.cause) for each in told] == [(0, "mode"), (2, "residual")]
    assert told[0].size == pytest.approx(chance + 0.001)
    assert f"chance allows {chance:.3f}" in told[0].advice
    # With one mode nobody looks on the way.
    assert doubts([1.0], Telling(), 10**6, seen=[[9.0]]) == []
