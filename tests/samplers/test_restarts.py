"""Several starts: which levels they pass, which of them goes on, and what is said where none is right."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import Operator, RandomStreams
from daps_kit.noise import GaussianNoise
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import Daps
from daps_samplers.plan import BUDGETS, SEARCH_END

SHAPE = (1, 8, 8)


class Power(Operator):
    """y = x^2, whose sign is lost."""

    multimodal = True

    def __init__(self) -> None:
        super().__init__(SHAPE, GaussianNoise(0.05))

    def forward(self, x):
        return x.square()


def sample(operator, y, prior=None, seeds=range(3), **settings):
    calls = []
    prior = prior or GaussianPrior(torch.full(SHAPE, 0.5), 0.3)
    denoise = prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    return list(Daps(**settings).build().sample(prior, operator, y, RandomStreams(seeds))), calls


def measured(count=3):
    x0 = 0.5 + 0.3 * RandomStreams(range(10, 10 + count)).normal(SHAPE)
    return Power().measure(x0, RandomStreams(range(20, 20 + count)))


@pytest.mark.parametrize("budget", [*BUDGETS, 33])
def test_four_starts_pass_the_highest_levels_within_the_budget(budget):
    steps, calls = sample(Power(), measured(), budget=budget)
    total = BUDGETS[budget][1] if isinstance(budget, str) else budget
    assert total - 4 < len(calls) <= total
    sigmas = [step.sigma for step in steps]
    high = [sigma for sigma in sigmas if sigma >= SEARCH_END]
    assert sigmas[: len(high)] == high, "the search comes first"
    assert high == high[: len(high) // 4] * 4
    rest = sigmas[len(high) :]
    assert rest == sorted(set(rest), reverse=True)
    assert [step.level for step in steps] == list(range(len(steps)))
    assert {step.levels for step in steps} == {len(steps)}


def test_the_start_with_the_least_residual_goes_on_for_each_sample():
    y, operator = measured(), Power()
    steps, _ = sample(operator, y, budget=33)
    search = sum(step.sigma >= SEARCH_END for step in steps) // 4
    ends = torch.stack([steps[(start + 1) * search - 1].x0y for start in range(4)])
    residuals = torch.stack([operator.residual(end, y) for end in ends])
    chosen = ends[residuals.argmin(0), torch.arange(3)]
    assert len(set(residuals.argmin(0).tolist())) > 1, "the samples choose apart"
    noise = (steps[4 * search].x_t - chosen) / steps[4 * search].sigma
    assert float(noise.std()) == pytest.approx(1, abs=0.2)
    assert float((noise - noise.mean()).abs().max()) < 5


def test_one_start_where_the_levels_are_given_or_the_operator_has_one_mode():
    class OneMode(Power):
        multimodal = False

    assert len(sample(Power(), measured(), annealing={"levels": 6})[0]) == 6
    assert len(sample(OneMode(), measured(), budget=20)[0]) == 20
    assert len(sample(Power(), measured(), budget=20, restarts=1)[0]) == 20


def test_a_sample_in_a_wrong_mode_is_named():
    y = measured()
    y[1] = 0.3 * RandomStreams([7]).normal(SHAPE)[0] - 0.5
    last = sample(Power(), y, budget=25)[0][-1]
    (told,) = last.failures
    assert (told.sample, told.cause, told.lost, told.level) == (1, "mode", False, last.level)
    assert str(told).startswith("no level explains the measurement")
    assert not sample(Power(), measured(), budget=25)[0][-1].failures
