"""Laplace and Student noise against scipy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from daps_kit.noise import LaplaceNoise, StudentNoise
from daps_kit.random import RandomStreams

PAIRS = {
    "laplace": (LaplaceNoise(0.3), scipy.stats.laplace(scale=0.3)),
    "cauchy": (StudentNoise(0.3, 1.0), scipy.stats.t(1.0, scale=0.3)),
    "student": (StudentNoise(0.3, 4.5), scipy.stats.t(4.5, scale=0.3)),
    "nearly gaussian": (StudentNoise(0.3, 200.0), scipy.stats.t(200.0, scale=0.3)),
}
each = pytest.mark.parametrize(("noise", "law"), PAIRS.values(), ids=PAIRS)
Y = torch.tensor([-9.0, -1.0, -0.3, 0.0, 1e-4, 0.2, 0.9, 40.0], dtype=torch.float64)


@each
def test_the_density_is_scipys(noise, law):
    np.testing.assert_allclose(noise.log_density(torch.full_like(Y, 0.1), Y + 0.1), law.logpdf(Y), rtol=1e-9)


@each
def test_draws_are_scipys(noise, law):
    y = noise.sample(torch.zeros(1, 30_000), RandomStreams([3]))
    assert scipy.stats.kstest(y[0].double(), law.cdf).pvalue > 1e-3


@each
@pytest.mark.parametrize(
    ("low", "high"),
    [(-0.1, 0.2), (0.2, 0.9), (-0.9, -0.3), (0.3, 0.30001), (-np.inf, -0.4), (0.4, np.inf), (-3, np.inf)],
)
def test_the_probability_of_a_cell_is_scipys(noise, law, low, high):
    got = noise.log_probability(
        *(torch.tensor([[v]], dtype=torch.float64) for v in (0.1, low + 0.1, high + 0.1))
    )
    expected = law.cdf(high) - law.cdf(low) if high < 0.5 else law.sf(low) - law.sf(high)
    assert float(got) == pytest.approx(np.log(expected), rel=1e-6, abs=1e-9)


@each
def test_far_tails_of_cells(noise, law):
    got = noise.log_probability(*(torch.tensor([[v]], dtype=torch.float64) for v in (0.0, 2.4, np.inf)))
    assert float(got) == pytest.approx(law.logsf(2.4), rel=1e-4)


@each
def test_the_curvature_is_that_of_a_parabola_above(noise, law):
    """Touching the misfit at d, the parabola of this curvature lies above it wherever |d| is not within the cap."""
    d = torch.linspace(-2, 2, 81, dtype=torch.float64)
    zero = torch.zeros_like(d)
    for at in (0.35, -0.7, 1.9):
        here = torch.full_like(d, at)
        m, w = noise.misfit(here, zero), torch.as_tensor(noise.curvature(here, zero))
        parabola = m + w * (d.square() - at**2)
        assert (parabola >= noise.misfit(d, zero) - 1e-12).all()
