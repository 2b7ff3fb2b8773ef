"""Photon noise against scipy's distribution, in the dark and in cells of counts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from daps_kit.noise import PoissonNoise
from daps_kit.random import RandomStreams

F64 = torch.float64


def clean_and_measured(noise):
    clean = torch.rand((3, 2, 40, 30), dtype=F64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clean = clean.abs() if noise.black == 0 else clean
    return clean, noise.sample(clean, RandomStreams([1, 2, 3]))


@pytest.mark.parametrize(("peak", "black"), [(40.0, -1.0), (255.0, -1.0), (0.5, -1.0), (30.0, 0.0)])
def test_poisson_density_is_scipys(peak, black):
    noise = PoissonNoise(peak, black)
    clean, y = clean_and_measured(noise)
    counts = (y.numpy() - black) / (1 - black) * peak
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    rate = peak * (clean.numpy() - black) / (1 - black)
    expected = scipy.stats.poisson.logpmf(np.round(counts), rate)
    np.testing.assert_allclose(noise.log_density(clean, y)[rate > 0.01], expected[rate > 0.01], atol=1e-9)
    single = noise.log_density(clean.float(), y.float()).double()
    np.testing.assert_allclose(single[rate > 0.1], expected[rate > 0.1], atol=1e-3)


def test_without_counts_it_is_exact_in_the_dark():
    noise = PoissonNoise(100.0)
    clean = torch.tensor([-1.5, -1.0, -0.9999, 0.0], dtype=F64)
    log_density = noise.log_density(clean, torch.full_like(clean, -1.0))
    torch.testing.assert_close(log_density, torch.tensor([0.0, 0.0, -0.005, -50.0], dtype=F64))


@pytest.mark.parametrize("counts", [0.0, 0.004, 0.01, 1.0, 37.0])
def test_the_misfit_is_convex_and_points_back_to_the_light(counts):
    noise = PoissonNoise(100.0, black=0.0)
    rate = torch.linspace(-0.5, 60, 200001, dtype=F64)
    clean, y = rate / 100, torch.full_like(rate, counts / 100)
    slope = noise.misfit_grad(clean, y)
    assert (slope.diff() > -1e-9).all()
    area = (slope[1:] + slope[:-1]) / 2 * clean.diff()
    torch.testing.assert_close(noise.misfit(clean, y).diff(), area, rtol=0, atol=3e-3)
    assert (slope[rate < counts] <= 0).all()
    assert (slope[rate > max(counts, 1e-9)] > 0).all()


def test_black_is_what_is_stated_else_what_the_operator_says():
    assert PoissonNoise(10.0).black == -1
    assert PoissonNoise(10.0).with_black(0.0).black == 0
    assert PoissonNoise(10.0).with_black(0.0).gain == 10
    assert PoissonNoise(10.0, black=-0.5).with_black(0.0).black == -0.5
    assert PoissonNoise(10.0).with_black(0.0).with_black(-1.0).black == 0


@pytest.mark.parametrize("rate", [0.05, 0.7, 3.0, 20.0, 300.0])
@pytest.mark.parametrize(
    ("low", "high"), [(-np.inf, 2.5), (2.5, 4.5), (2.5, 3.5), (17.0, 25.0), (30.5, np.inf), (280.0, 281.0)]
)
def test_the_probability_of_a_cell_is_that_of_its_counts(rate, low, high):
    noise = PoissonNoise(1.0, black=0.0)
    got = float(noise.log_probability(*(torch.tensor([[v]], dtype=F64) for v in (rate, low, high))))
    law = scipy.stats.poisson(rate)
    counts = np.arange(
        max(0, np.floor(low) + 1 if np.isfinite(low) else 0), (high if np.isfinite(high) else 2000) + 1
    )
    counts = counts[counts <= high]
    expected = np.logaddexp.reduce(law.logpmf(counts))
    # Below 1e-6 of a tail a wide cell is a geometric series, whose error is small beside the logarithm.
    assert got == pytest.approx(expected, abs=1e-6 if expected > -200 else 1e-3 * abs(expected))
