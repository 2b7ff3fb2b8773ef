"""Gaussian noise of one standard deviation, and of a map of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from daps_kit.errors import ComponentError
from daps_kit.noise import GaussianNoise
from daps_kit.noise.gaussian import log_normal_cell
from daps_kit.random import RandomStreams

MAP = torch.tensor([[0.1, 0.2, 0.4], [0.05, 1.0, 0.3]])


def measured(noise):
    clean = torch.linspace(-1, 1, 5 * 6, dtype=torch.float64).reshape(5, 2, 3)
    return clean, noise.sample(clean, RandomStreams(range(5)))


@pytest.mark.parametrize("sigma", [0.07, MAP])
def test_the_density_is_scipys(sigma):
    noise = GaussianNoise(sigma)
    clean, y = measured(noise)
    expected = scipy.stats.norm.logpdf(y, clean, np.asarray(sigma, dtype=np.float64))
    np.testing.assert_allclose(noise.log_density(clean, y), expected, rtol=1e-6)


def test_draws_are_normal_each_with_its_own_deviation():
    y = GaussianNoise(MAP).sample(torch.zeros(2000, 2, 3), RandomStreams(range(2000)))
    for i, j in np.ndindex(2, 3):
        assert scipy.stats.kstest(y[:, i, j], "norm", args=(0, float(MAP[i, j]))).pvalue > 1e-3


def test_a_map_of_one_value_is_that_value():
    one, same = GaussianNoise(0.2), GaussianNoise(torch.full((2, 3), 0.2))
    clean, y = measured(one)
    assert same.dispersion == pytest.approx(one.dispersion)
    for method in ("misfit", "misfit_grad", "log_density"):
        torch.testing.assert_close(
            getattr(same, method)(clean, y), getattr(one, method)(clean, y), rtol=1e-6, atol=0
        )
    assert same.level(y) == pytest.approx(one.level(y))


def test_the_variance_of_an_element_is_dispersion_over_curvature():
    noise = GaussianNoise(MAP)
    clean, y = measured(noise)
    torch.testing.assert_close(
        noise.dispersion / noise.curvature(clean, y), MAP.double().square(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(noise.std(clean), MAP.double().expand(5, 2, 3))


@pytest.mark.parametrize("form", [(2,), (2, 3), (2, 4, 5)])
def test_one_a_channel_is_a_map_that_has_it_everywhere_in_the_channel(form):
    sigma = [0.3, 0.05]
    noise, same = GaussianNoise(sigma), GaussianNoise(torch.tensor(sigma).reshape(2, *[1] * (len(form) - 1)))
    clean = torch.linspace(-1, 1, 3 * int(np.prod(form))).reshape(3, *form)
    y = noise.sample(clean, RandomStreams(range(3)))
    expected = scipy.stats.norm.logpdf(y, clean, np.reshape(sigma, [2, *[1] * (len(form) - 1)]))
    np.testing.assert_allclose(noise.log_density(clean, y), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(noise.channels, [0.09, 0.0025])
    assert noise.dispersion == pytest.approx(same.dispersion)
    torch.testing.assert_close(noise.curvature(clean, y), same.curvature(clean, y))


@pytest.mark.parametrize("sigma", [[0.1], [0.1, 0.2, 0.3], [0.1] * 6])
def test_a_list_for_other_channels_is_named(sigma):
    said = f"sigma is a list of {len(sigma)}, and the number of channels of the measurement is 2; allowed: one number"
    with pytest.raises(ComponentError, match=said):
        GaussianNoise(sigma).std(torch.zeros(1, 2, 3))


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3), (7,)])
def test_a_map_that_does_not_fit_is_named(shape):
    with pytest.raises(
        ComponentError, match=r"the map of sigma has the shape .* does not fit a measurement of \[2, 3\]"
    ):
        GaussianNoise(torch.ones(shape)).sample(torch.zeros(1, 2, 3), RandomStreams([0]))


@pytest.mark.parametrize(
    ("low", "high"), [(-1, 1), (0.1, 0.1001), (-np.inf, -20), (20, np.inf), (30, 31), (-35, -34.999)]
)
def test_the_probability_of_a_cell_is_accurate_in_both_tails(low, high):
    """Against mpmath's precision by scipy: log_ndtr and its difference, or the density of narrow cells."""
    got = float(
        log_normal_cell(torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64))
    )
    near, far = (-high, -low) if low > 0 else (low, high)
    upper, lower = scipy.stats.norm.logcdf(far), scipy.stats.norm.logcdf(near)
    expected = upper + np.log(-np.expm1(lower - upper))
    if high - low < 0.01:
        middle = (low + high) / 2
        expected = (
            scipy.stats.norm.logpdf(middle) + np.log(high - low) + (high - low) ** 2 * (middle**2 - 1) / 24
        )
    assert got == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("sigma", [0, 0.0, 1e-9, torch.zeros(2, 3)])
@pytest.mark.parametrize("scale", [1.0, 96.0])
def test_no_noise_is_as_little_as_single_precision_carries(sigma, scale):
    noise = GaussianNoise(sigma).with_scale(scale)
    least = scale * np.sqrt(np.finfo(np.float32).eps)
    clean = torch.full((1, 2, 3), scale)
    assert noise.exact
    torch.testing.assert_close(noise.std(clean), torch.full_like(clean, least))
    assert noise.sigma == pytest.approx(least)
    torch.testing.assert_close(noise.sample(clean, RandomStreams([0])), clean, rtol=1e-7, atol=1e-8)
    expected = scipy.stats.norm.logpdf(2 * least, 0, least)
    np.testing.assert_allclose(
        noise.log_density(torch.zeros(1, 2, 3), clean / scale * 2 * least), expected, rtol=1e-5
    )
    # Its square is the least that single precision tells from none beside the square of what it is noise of.
    assert np.float32(1) + np.float32((least / scale) ** 2) > 1
    assert np.float32(1) + np.float32((least / scale) ** 2 / 4) == 1


def test_some_noise_stays_as_it_is_also_beside_none():
    assert not GaussianNoise(1e-5).exact
    assert GaussianNoise(1e-5).with_scale(10.0).sigma == 1e-5
    noise = GaussianNoise(torch.tensor([0.0, 0.1]))
    assert not noise.exact
    np.testing.assert_allclose(
        noise.std(torch.zeros(1, 2))[0], [np.finfo(np.float32).eps ** 0.5, 0.1], rtol=1e-6
    )
