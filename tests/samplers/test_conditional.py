"""The target of a level: its centre and covariance by their formulas, from a prior whose every answer is known."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.conditional import Conditional
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM
from daps_samplers.target import ExactScoreTarget

SHAPE, M, S, SIGMA = (1, 3, 4), 0.2, 0.5, 0.7
SOLVED, DIRECT = ProbabilityFlow(EDM(), 4, 0.01), ProbabilityFlow(EDM(), 0)


def mean(x, sigma):
    return M + S**2 / (S**2 + sigma**2) * (x - M)


@pytest.fixture
def x_t():
    return RandomStreams([1, 2]).normal(SHAPE)


@pytest.mark.parametrize(
    ("ode", "score", "expected"),
    [
        (SOLVED, "gaussian", lambda x, guess: guess),
        (SOLVED, "score-t", lambda x, guess: mean(x, SIGMA)),
        (DIRECT, "score-t", lambda x, guess: guess),
        (SOLVED, "score-min", lambda x, guess: x + SIGMA**2 * (mean(guess, 0.05) - guess) / 0.05**2),
        (SOLVED, "exact", lambda x, guess: x),
    ],
)
def test_the_centre_is_that_of_the_prior_score(x_t, ode, score, expected):
    guess = x_t.flip(0)
    centre = Conditional(ode, score, 0.05).centre(GaussianPrior(M, S), x_t, guess, SIGMA)
    torch.testing.assert_close(centre, expected(x_t, guess), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("asked", "used"), [(0.001, 0.1), (0.3, 0.3), (9.0, 2.0)])
def test_the_score_is_asked_where_the_prior_knows_it(x_t, asked, used):
    prior = GaussianPrior(M, S)
    prior.sigma_range = (0.1, 2.0)
    centre = Conditional(SOLVED, "score-min", asked).centre(prior, x_t, x_t, SIGMA)
    torch.testing.assert_close(centre, x_t + SIGMA**2 * (mean(x_t, used) - x_t) / used**2)


@pytest.mark.parametrize(
    ("ode", "score", "spread", "variance"),
    [
        (DIRECT, "gaussian", "auto", "known"),
        (DIRECT, "score-t", "auto", "known"),
        (DIRECT, "score-min", "auto", "sigma"),
        (SOLVED, "gaussian", "auto", "sigma"),
        (SOLVED, "gaussian", "calibrated", "known"),
        (DIRECT, "gaussian", "sigma", "sigma"),
        (DIRECT, "gaussian", "isotropic", "known"),
    ],
)
def test_the_spread(scaled_operator, x_t, ode, score, spread, variance):
    expected = {"known": 1 / (1 / S**2 + 1 / SIGMA**2), "sigma": SIGMA**2}[variance]
    target = Conditional(ode, score, spread=spread).target(
        GaussianPrior(torch.full(SHAPE, M), S), scaled_operator(1.0, 0.1, SHAPE), x_t, x_t, x_t, SIGMA, 3, 8
    )
    torch.testing.assert_close(target.covariance.multiply(x_t), expected * x_t)
    assert (target.sigma, target.level, target.levels) == (SIGMA, 3, 8)
    assert target.has_density


def test_the_mean_variance_is_used_in_all_directions(x_t):
    matrix = torch.diag(torch.linspace(0.1, 2.3, 12, dtype=torch.float64))
    prior = GaussianPrior(torch.full(SHAPE, M, dtype=torch.float64), covariance=matrix)
    left = torch.linalg.inv(torch.linalg.inv(matrix) + torch.eye(12) / SIGMA**2)
    covariance = Conditional(DIRECT, spread="isotropic").covariance(prior, x_t, SIGMA)
    assert covariance is not None
    assert float(covariance.isotropic) == pytest.approx(float(left.trace()) / 12, rel=0.01)


def test_a_prior_that_knows_nothing_has_the_published_spread(scaled_operator, x_t):
    class Blind(GaussianPrior):
        def denoising_covariance(self, sigma):
            return None

    conditional = Conditional(DIRECT)
    assert conditional.covariance(Blind(M, S), x_t, SIGMA) is None
    target = conditional.target(Blind(M, S), scaled_operator(1.0, 0.1, SHAPE), x_t, x_t, x_t, SIGMA)
    assert float(target.covariance.isotropic) == pytest.approx(SIGMA**2)


def test_the_exact_score_has_no_density(scaled_operator, x_t):
    target = Conditional(SOLVED, "exact").target(
        GaussianPrior(M, S), scaled_operator(1.0, 0.1, SHAPE), x_t, x_t, x_t, SIGMA
    )
    assert isinstance(target, ExactScoreTarget)
    assert not target.has_density


@pytest.mark.parametrize(
    ("ode", "score", "calls"),
    [(DIRECT, "score-t", 1), (SOLVED, "gaussian", 4), (SOLVED, "score-t", 5), (SOLVED, "score-min", 5)],
)
def test_calls_of_a_level(x_t, ode, score, calls):
    assert Conditional(ode, score).calls == calls
