"""What a level draws from, by the closed forms of a Gaussian prior."""

from __future__ import annotations

from math import inf, sqrt

import pytest
import torch

from daps_kit.contracts import Covariance, Prior, RandomStreams
from daps_kit.covariance import Diagonal
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.conditional import Conditional, mean_variance
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM

SHAPE, M, S, SIGMA, LOW = (1, 6, 8), 0.3, 0.4, 0.5, 0.05
SOLVED, DIRECT = ProbabilityFlow(EDM(), 5), ProbabilityFlow(EDM(), 0)


@pytest.fixture
def problem(scaled_operator):
    streams = RandomStreams([1, 2])
    operator = scaled_operator(0.8, 0.2, SHAPE)
    x_t, x0hat, y = (streams.normal(SHAPE, torch.float64) for _ in range(3))
    return GaussianPrior(M, S), operator, y, x_t, x0hat


class Unsaid(Prior):
    """Does not say what it leaves open."""

    def denoise(self, x, sigma):
        return x


def score(x, sigma):
    return (M - x) / (S**2 + sigma**2)


@pytest.mark.parametrize("prior_score", ["gaussian", "score-t", "score-min", "exact"])
def test_the_centre_is_the_priors_score(problem, prior_score):
    """Of the target without the measurement: its gradient at x, by each definition."""
    prior, operator, y, x_t, x0hat = problem
    target = Conditional(SOLVED, prior_score, LOW, "sigma").target(prior, operator, y, x_t, x0hat, SIGMA)
    x = 0.3 * y
    _, gradient = target.log_density_grad(x)
    likelihood = operator.loss_grad(x, y)[1] * (-0.5 / operator.noise.dispersion)
    centres = {
        "gaussian": x0hat,
        "score-t": x_t + SIGMA**2 * score(x_t, SIGMA),
        "score-min": x_t + SIGMA**2 * score(x0hat, LOW),
    }
    expected = (centres.get(prior_score, x_t) - x) / SIGMA**2
    if prior_score == "exact":
        expected = expected + score(x, LOW)
    torch.testing.assert_close(gradient - likelihood, expected, rtol=1e-5, atol=1e-5)
    assert target.has_density == (prior_score != "exact")


def test_where_nothing_was_solved_x0hat_is_the_centre(problem):
    prior, operator, y, x_t, x0hat = problem
    target = Conditional(DIRECT, "score-t").target(prior, operator, y, x_t, x0hat, SIGMA)
    assert target.centre is x0hat


@pytest.mark.parametrize(
    ("spread", "variance"),
    [
        ("sigma", SIGMA**2),
        ("calibrated", S**2 * SIGMA**2 / (S**2 + SIGMA**2)),
        ("isotropic", S**2 * SIGMA**2 / (S**2 + SIGMA**2)),
    ],
)
def test_the_covariance_is_what_the_settings_say(problem, spread, variance):
    prior, operator, y, x_t, x0hat = problem
    target = Conditional(SOLVED, spread=spread).target(prior, operator, y, x_t, x0hat, SIGMA, 2, 7)
    torch.testing.assert_close(target.covariance.multiply(y), variance * y, rtol=1e-5, atol=1e-7)
    assert (target.sigma, target.level, target.levels) == (SIGMA, 2, 7)
    unsaid = Conditional(SOLVED, spread=spread).target(Unsaid(), operator, y, x_t, x0hat, SIGMA)
    torch.testing.assert_close(unsaid.covariance.multiply(y), SIGMA**2 * y, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("ode", "prior_score", "spread"),
    [
        (DIRECT, "gaussian", "calibrated"),
        (DIRECT, "score-t", "calibrated"),
        (SOLVED, "gaussian", "sigma"),
        (DIRECT, "score-min", "sigma"),
        (DIRECT, "exact", "sigma"),
    ],
)
def test_the_spread_is_calibrated_where_that_holds(ode, prior_score, spread):
    assert Conditional(ode, prior_score).spread == spread


@pytest.mark.parametrize("prior_score", ["score-min", "exact"])
@pytest.mark.parametrize("spread", ["calibrated", "isotropic"])
def test_a_spread_that_the_score_fixes_is_refused(prior_score, spread):
    with pytest.raises(ValueError, match=f"prior_score '{prior_score}' fixes the spread; '{spread}' cannot"):
        Conditional(DIRECT, prior_score, spread=spread)


def test_the_likelihood_is_that_of_the_noise_or_of_tau(problem):
    prior, operator, y, x_t, x0hat = problem
    for tau, variance in ((None, 0.2**2), (0.3, 0.3**2)):
        target = Conditional(DIRECT, tau=tau).target(prior, operator, y, x_t, x0hat, SIGMA)
        assert target.likelihood_variance == pytest.approx(variance)


@pytest.mark.parametrize(("valid", "used"), [((0.0, inf), LOW), ((0.1, inf), 0.1), ((0.0, 0.02), 0.02)])
def test_the_level_of_the_score_stays_where_the_prior_is_valid(problem, valid, used):
    prior, operator, y, x_t, x0hat = problem
    prior.sigma_range = valid
    target = Conditional(DIRECT, "score-min", LOW).target(prior, operator, y, x_t, x0hat, SIGMA)
    torch.testing.assert_close(target.centre, x_t + SIGMA**2 * score(x0hat, used), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ode", "prior_score", "calls"),
    [
        (DIRECT, "gaussian", 1),
        (DIRECT, "score-t", 1),
        (SOLVED, "gaussian", SOLVED.calls),
        (SOLVED, "score-t", SOLVED.calls + 1),
        (SOLVED, "score-min", SOLVED.calls + 1),
        (SOLVED, "exact", SOLVED.calls),
    ],
)
def test_calls_are_those_that_are_made(problem, ode, prior_score, calls):
    prior, operator, y, x_t, _ = problem
    asked, denoise = [], prior.denoise
    prior.denoise = lambda x, sigma: asked.append(sigma) or denoise(x, sigma)
    conditional = Conditional(ode, prior_score, LOW)
    conditional.target(prior, operator, y, x_t, ode.solve(prior, x_t, SIGMA), SIGMA)
    assert conditional.calls == calls == len(asked)


class Rotated(Covariance):
    """A diagonal one in the coordinates (a + b) / sqrt 2, (a - b) / sqrt 2 of neighbours in a row."""

    def __init__(self, variances):
        self.variances = variances

    def scale(self, v):
        a, b = (v[..., 0::2] + v[..., 1::2]) / sqrt(2), (v[..., 0::2] - v[..., 1::2]) / sqrt(2)
        a, b = a * self.variances[0].sqrt(), b * self.variances[1].sqrt()
        return torch.stack([(a + b) / sqrt(2), (a - b) / sqrt(2)], -1).flatten(-2)

    def precision(self, v):
        raise AssertionError("nobody asks")


def test_the_mean_variance_is_the_trace_over_the_size():
    variances = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))
    found = mean_variance(Diagonal(variances[None]), torch.zeros(2, 1, 20, 30))
    torch.testing.assert_close(found, variances.mean())  # exact for any signs
    found = mean_variance(Rotated(torch.tensor([0.5, 0.1])), torch.zeros(2, 1, 60, 60))
    assert float(found) == pytest.approx(0.3, rel=0.03)
