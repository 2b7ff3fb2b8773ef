"""Photon and read noise against sums over thousands of counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

from daps_kit.noise import PoissonGaussianNoise
from daps_kit.noise.poisson_gaussian import ERROR, SMOOTH
from daps_kit.random import RandomStreams

F64 = torch.float64
RATES = [0.02, 0.1, 0.5, 1.0, 4.0, 20.0, 200.0, 1000.0]


def log_sum(rate, read, term):
    k = np.arange(int(rate + 12 * np.sqrt(max(rate, 1)) + 14 * read + 1100))
    return logsumexp(k * np.log(rate) - rate - gammaln(k + 1) + term(k))


def value(number):
    return torch.tensor([[number]], dtype=F64)


@pytest.mark.parametrize("read", [0.1, 0.5, 1.3, SMOOTH - 0.01, SMOOTH, 3.0, 20.0])
def test_the_density_is_the_sum_over_counts(read):
    """Within 6 standard deviations of the mean, to rounding where it is summed, else to the stated error."""
    noise = PoissonGaussianNoise(1.0, read, black=0.0)
    worst = 0.0
    for rate in RATES:
        for away in (-6, -4, -2, -1, -0.3, 0, 0.4, 1, 2, 4, 6):
            z = rate + away * np.sqrt(rate + read**2)
            exact = log_sum(rate, read, lambda k, z=z: norm.logpdf(z, k, read))
            worst = max(worst, abs(float(noise.log_density(value(rate), value(z))) - exact))
    assert worst < (ERROR if read >= SMOOTH else 1e-6)


@pytest.mark.parametrize("read", [0.3, 0.9, 1.5, 4.0])
@pytest.mark.parametrize(("low", "high"), [(-np.inf, 1.5), (2.5, 3.5), (15.5, 19.5), (60.5, np.inf)])
def test_the_probability_of_a_cell_is_the_sum_over_counts(read, low, high):
    noise = PoissonGaussianNoise(1.0, read, black=0.0)

    def cell(k):
        right = norm.sf(low, k, read) - norm.sf(high, k, read)
        left = norm.cdf(high, k, read) - norm.cdf(low, k, read)
        return np.log(np.where(k < low, right, left).clip(1e-300))

    for rate in (0.3, 3.0, 18.0, 70.0):
        got = float(noise.log_probability(value(rate), value(low), value(high)))
        exact = log_sum(rate, read, cell)
        if exact > -25:  # beyond, the difference is rounding
            assert got == pytest.approx(exact, abs=2e-3 if read >= 1 else 1e-6)


def test_draws_are_counts_with_noise_of_the_camera():
    noise = PoissonGaussianNoise(50.0, 3.0)
    y = noise.sample(torch.zeros(4, 50_000), RandomStreams(range(4))).double()
    electrons = (y + 1) * 25
    n = y.numel()
    assert float(electrons.mean()) == pytest.approx(25, abs=4.5 * np.sqrt(34 / n))
    assert float(electrons.var()) == pytest.approx(34, rel=4.5 * np.sqrt(2.2 / n))
    skew = float(((electrons - electrons.mean()) ** 3).mean())
    assert skew == pytest.approx(
        25, abs=4.5 * np.sqrt(15 * 34**3 / n)
    )  # the third cumulant is the photons' alone


@pytest.mark.parametrize("read", [0.5, 3.0])
def test_in_the_dark_the_gradient_points_back_to_the_light(read):
    noise = PoissonGaussianNoise(100.0, read, black=0.0)
    clean = torch.linspace(-3, 0.05, 50, dtype=F64)
    slope = noise.misfit_grad(clean, torch.full_like(clean, 0.3))
    assert (slope < 0).all()
    dark = noise.misfit(
        torch.tensor([-0.5, -0.1, 0.0], dtype=F64), torch.full((3,), -2 * read / 100, dtype=F64)
    )
    torch.testing.assert_close(dark, dark[:1].expand(3), rtol=0, atol=1e-9)
