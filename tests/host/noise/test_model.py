"""Noise models against scipy's densities, autograd, and the moments of their draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from daps_kit.noise import GaussianNoise, PoissonNoise
from daps_kit.random import RandomStreams

NOISES = {
    "gaussian": GaussianNoise(0.07),
    "poisson": PoissonNoise(40.0),
    "few photons": PoissonNoise(0.5),
    "poisson of magnitudes": PoissonNoise(30.0, black=0.0),
}
each_noise = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)


def clean_and_measured(noise, dtype=torch.float64):
    clean = torch.rand((3, 2, 40, 30), dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clean = clean.abs() if getattr(noise, "black", -1) == 0 else clean
    return clean, noise.sample(clean, RandomStreams([1, 2, 3]))


def test_gaussian_density_is_scipys():
    noise = GaussianNoise(0.07)
    clean, y = clean_and_measured(noise)
    expected = scipy.stats.norm.logpdf(y, clean, 0.07)
    np.testing.assert_allclose(noise.log_density(clean, y), expected, rtol=1e-12)


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


def test_poisson_without_counts_is_exact_in_the_dark():
    noise = PoissonNoise(100.0)
    clean = torch.tensor([-1.5, -1.0, -0.9999, 0.0], dtype=torch.float64)
    log_density = noise.log_density(clean, torch.full_like(clean, -1.0))
    torch.testing.assert_close(log_density, torch.tensor([0.0, 0.0, -0.005, -50.0], dtype=torch.float64))


@each_noise
def test_misfit_and_log_density_agree(noise):
    """log p = -misfit / (2 dispersion) + a constant that depends on y alone."""
    clean, y = clean_and_measured(noise)
    other = clean + 0.1 * torch.sin(100 * clean)
    change = noise.log_density(clean, y) - noise.log_density(other, y)
    misfits = noise.misfit(clean, y) - noise.misfit(other, y)
    torch.testing.assert_close(change, -misfits / (2 * noise.dispersion), rtol=1e-9, atol=1e-9)


@each_noise
def test_the_misfit_is_zero_at_the_measurement_and_positive_elsewhere(noise):
    clean, y = clean_and_measured(noise)
    assert (noise.misfit(y, y).abs() < 1e-9).all()
    assert (noise.misfit(clean, y) >= 0).all()
    assert (noise.misfit(clean - 3, y) >= 0).all()


@each_noise
@pytest.mark.parametrize("shift", [0.0, -0.4, -5.0])
def test_misfit_grad_is_the_derivative(noise, shift):
    clean, y = clean_and_measured(noise)
    leaf = (clean + shift).requires_grad_()
    (expected,) = torch.autograd.grad(noise.misfit(leaf, y).sum(), leaf)
    gradient = noise.misfit_grad(leaf.detach(), y)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    single = noise.misfit_grad(leaf.detach().float(), y.float()).double()
    torch.testing.assert_close(single, gradient, rtol=1e-4, atol=1e-4)
    leaf = leaf.detach().float().requires_grad_()
    (single,) = torch.autograd.grad(noise.misfit(leaf, y.float()).sum(), leaf)
    torch.testing.assert_close(single.double(), gradient, rtol=1e-4, atol=2e-2)


@pytest.mark.parametrize("counts", [0.0, 0.004, 0.01, 1.0, 37.0])
def test_poisson_misfit_is_convex_and_points_back_to_the_light(counts):
    noise = PoissonNoise(100.0, black=0.0)
    rate = torch.linspace(-0.5, 60, 200001, dtype=torch.float64)
    clean, y = rate / 100, torch.full_like(rate, counts / 100)
    slope = noise.misfit_grad(clean, y)
    assert (slope.diff() > -1e-9).all()
    area = (slope[1:] + slope[:-1]) / 2 * clean.diff()
    torch.testing.assert_close(noise.misfit(clean, y).diff(), area, rtol=0, atol=3e-3)
    assert (slope[rate < counts] <= 0).all()
    assert (slope[rate > max(counts, 1e-9)] > 0).all()


@pytest.mark.parametrize(("noise", "mean", "variance"), [
    (GaussianNoise(0.2), 0.3, 0.04),
    (PoissonNoise(50.0), 0.3, 50 * 0.65 * (2 / 50) ** 2),
    (PoissonNoise(50.0, black=0.0), 0.3, 50 * 0.3 / 50**2),
])  # fmt: skip
def test_moments_of_draws(noise, mean, variance):
    n = 200_000
    y = noise.sample(torch.full((2, n), mean, dtype=torch.float64), RandomStreams([3, 4]))
    assert (y.mean(1) - mean).abs().max() < 5 * math.sqrt(variance / n)
    assert (y.var(1) / variance - 1).abs().max() < 5 * math.sqrt(2 / n) * 1.1


def test_gaussian_draws_are_normal():
    y = GaussianNoise(0.2).sample(torch.zeros(1, 20_000), RandomStreams([3]))
    assert scipy.stats.kstest(y[0], "norm", args=(0, 0.2)).pvalue > 1e-3


@each_noise
def test_a_draw_depends_on_its_stream_alone(noise):
    clean, y = clean_and_measured(noise)
    alone = noise.sample(clean[1:2], RandomStreams([2]))
    assert torch.equal(alone, y[1:2])


@pytest.mark.parametrize(("make", "message"), [
    (lambda: GaussianNoise(0.0), "sigma must be positive"),
    (lambda: GaussianNoise(math.nan), "sigma must be positive"),
    (lambda: PoissonNoise(-1.0), "peak must be positive"),
    (lambda: PoissonNoise(math.inf), "peak must be positive"),
    (lambda: PoissonNoise(1.0, black=1.0), "black must be below 1"),
    (lambda: PoissonNoise(1.0, dark=0.0), "dark must be positive"),
])  # fmt: skip
def test_parameters_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
