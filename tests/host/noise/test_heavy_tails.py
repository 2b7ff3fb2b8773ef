"""Laplace and Student noise against scipy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from daps_kit.noise import GaussianNoise, LaplaceNoise, StackedNoise, StudentNoise
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


@pytest.mark.parametrize("d", [0.0, 0.05, 0.5, 3.0])
@each
def test_given_variances_noise_is_gaussian(noise, law, d):
    """Their density is that of the mixture times N(d; 0, t), normalised by that of the noise."""
    if isinstance(noise, LaplaceNoise):
        mixture = scipy.stats.expon(scale=2 * noise.scale**2)
    else:
        mixture = scipy.stats.invgamma(noise.dof / 2, scale=noise.dof * noise.scale**2 / 2)
    logs = np.linspace(-27, 25, 100_001)
    t = np.exp(logs)
    density = mixture.pdf(t) * scipy.stats.norm.pdf(d, scale=np.sqrt(t)) * t
    assert np.trapezoid(density, logs) == pytest.approx(law.pdf(d), rel=1e-3)
    zero = torch.zeros(1, 20_000, dtype=torch.float64)
    drawn = noise.variances(zero, zero + d, RandomStreams([3]))[0].log().numpy()
    share = np.cumsum(density) / density.sum()
    assert scipy.stats.kstest(drawn, lambda at: np.interp(at, logs, share)).pvalue > 1e-3


def test_variances_of_a_sample_are_those_of_its_noise_and_its_stream():
    noises = [LaplaceNoise(0.3), LaplaceNoise(0.6)]
    y = RandomStreams([1, 2]).normal((50,))
    both = StackedNoise(noises).variances(torch.zeros(2, 50), y, RandomStreams([5, 6]))
    alone = noises[1].variances(torch.zeros(1, 50), y[1:], RandomStreams([6]))
    assert torch.equal(both[1:], alone)
    with pytest.raises(TypeError, match="no mixture of Gaussians"):
        GaussianNoise(0.1).variances(y, y, RandomStreams([5, 6]))
