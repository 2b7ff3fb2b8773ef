"""The probability-flow ODE against its exact solution for a Gaussian prior.

For x0 ~ N(mu, s^2 I) the flow carries x at noise level a to mu + sqrt((s^2 + b^2) / (s^2 + a^2)) (x - mu) at level b.
"""

from __future__ import annotations

from math import log2, sqrt

import pytest
import torch

from daps_kit.contracts import Prior
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM, VE, VP, TrigFlow

SCHEDULES = {"edm": EDM(), "ve": VE(), "vp": VP(), "trigflow": TrigFlow()}
MEAN, STD = 0.5, 0.3
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


class Counting(Prior):
    """A prior that counts the calls of its denoiser and keeps their noise levels."""

    def __init__(self, prior: Prior) -> None:
        self.prior, self.sigmas = prior, []

    def denoise(self, x, sigma):
        self.sigmas.append(float(sigma))
        return self.prior.denoise(x, sigma)


@pytest.fixture(scope="module")
def points():
    return MEAN + 3.0 * torch.randn(
        4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def exact(x, start, stop):
    return MEAN + sqrt((STD**2 + stop**2) / (STD**2 + start**2)) * (x - MEAN)


@every_schedule
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order(points, schedule, solver, order):
    prior = GaussianPrior(MEAN, STD)
    errors = [
        float(
            (
                ProbabilityFlow(schedule, steps, 0.05, solver).solve(prior, points, 3.0)
                - exact(points, 3.0, 0.05)
            )
            .abs()
            .max()
        )
        for steps in (128, 256)
    ]
    assert log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@every_schedule
def test_every_schedule_gives_the_prior_its_mean_and_spread(schedule):
    prior = GaussianPrior(MEAN, STD)
    n = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    clean = MEAN + STD * torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(5))
    x0hat = ProbabilityFlow(schedule, 200, 0.01, "heun").solve(prior, clean + 20.0 * n, 20.0)
    count = x0hat.numel()
    assert float(x0hat.mean()) == pytest.approx(MEAN, abs=4 * STD / sqrt(count))
    assert float(x0hat.std()) == pytest.approx(sqrt(STD**2 + 0.01**2), rel=4 / sqrt(2 * count))


@every_schedule
def test_inverse_undoes_the_flow(points, schedule):
    prior = GaussianPrior(MEAN, STD)
    flow = ProbabilityFlow(schedule, 400, 0.05, "heun")
    there = flow.solve(prior, points, 3.0)
    torch.testing.assert_close(flow.inverse(prior, there, 3.0), points, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("flow", "calls"),
    [
        (ProbabilityFlow(EDM(), 5, 0.01), 5),
        (ProbabilityFlow(EDM(), 5, 0.01, "heun"), 10),
        (ProbabilityFlow(EDM(), 5, 0.01, denoise=True), 6),
        (ProbabilityFlow(EDM(), 0, 0.01), 1),
    ],
)
def test_number_of_network_calls(points, flow, calls):
    prior = Counting(GaussianPrior(MEAN, STD))
    flow.solve(prior, points, 3.0)
    assert len(prior.sigmas) == calls


@pytest.mark.parametrize("sigma", [0.005, 0.01])
def test_at_or_below_sigma_min_it_denoises_once(points, sigma):
    prior = Counting(GaussianPrior(MEAN, STD))
    x0hat = ProbabilityFlow(EDM(), 5, 0.01).solve(prior, points, sigma)
    assert prior.sigmas == [sigma]
    torch.testing.assert_close(x0hat, prior.prior.denoise(points, sigma))


def test_a_last_denoising_leaves_no_noise():
    prior = GaussianPrior(MEAN, 1e-4)
    x = MEAN + 2.0 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    spread = {
        denoise: float(ProbabilityFlow(EDM(), 50, 0.01, denoise=denoise).solve(prior, x, 2.0).std())
        for denoise in (False, True)
    }
    assert spread[False] == pytest.approx(0.01, rel=0.1)
    assert spread[True] < 2e-4


def test_it_stays_where_the_prior_is_valid(points):
    prior = Counting(GaussianPrior(MEAN, STD))
    prior.sigma_range = (0.2, 10.0)
    ProbabilityFlow(EDM(), 4, 0.01, "heun", denoise=True).solve(prior, points, 3.0)
    assert min(prior.sigmas) == 0.2


def test_a_trajectory_ends_where_solve_does(points):
    prior, flow = GaussianPrior(MEAN, STD), ProbabilityFlow(VP(), 6, 0.01)
    trajectory = flow.trajectory(prior, points, 3.0)
    assert len(trajectory) == 7
    torch.testing.assert_close(trajectory[-1], flow.solve(prior, points, 3.0))


@pytest.mark.parametrize("settings", [(-1, 0.1, "euler"), (3, 0.0, "euler"), (3, 0.1, "rk4")])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"need|unknown solver"):
        ProbabilityFlow(EDM(), *settings)


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("denoise", [False, True])
def test_the_calls_that_are_announced_are_made(points, solver, steps, denoise):
    flow, prior = ProbabilityFlow(EDM(), steps, 0.01, solver, denoise), Counting(GaussianPrior(0.0, 1.0))
    flow.solve(prior, points, 2.0)
    assert flow.calls == len(prior.sigmas)
