"""The measured errors of a prior of photographs, against those of a Gaussian at any size."""

from __future__ import annotations

import pytest
import torch

from daps_priors.photos.calibration import PhotoCalibration, calibrate_by_frequency
from tests.priors.photos.small_prior import SIGMAS, draws, expected


@pytest.mark.parametrize("sigma", [0.001, 0.02, 0.3, 10.0, 300.0])
@pytest.mark.parametrize("size", [(32, 32), (20, 70), (300, 8)])
def test_the_covariance_is_that_of_the_gaussian_at_any_size(gaussian, size, sigma):
    x = torch.zeros(1, 3, *size)
    covariance = gaussian.conditional_covariance(x, sigma)
    wanted = expected(gaussian, sigma, *size)
    torch.testing.assert_close(covariance.power.mean((1, 2)), wanted.mean((1, 2)), rtol=0.2, atol=0)
    assert float((covariance.power / wanted).log().abs().max()) < 0.5
    assert float((covariance.power / wanted).log().abs().mean()) < 0.1


def test_the_errors_by_noise_level(gaussian):
    found = gaussian.calibration
    for sigma, mse in zip(SIGMAS, found.mse.tolist(), strict=True):
        assert mse == pytest.approx(float(expected(gaussian, sigma, 32, 32).mean()), rel=0.1)
    assert found.images == 128
    assert found.lowest == 1 / 64


def test_ratios_are_read_between_rings_and_levels(gaussian):
    linear = gaussian.model.linear
    ratio = torch.tensor([[[1.0, 2.0, 4.0]] * 3, [[2.0, 4.0, 8.0]] * 3])
    table = PhotoCalibration(torch.tensor([0.1, 0.4]), torch.ones(2), ratio, 0.125, linear, 1)
    got = table.covariance(0.2, 8, 8).power / expected(gaussian, 0.2, 8, 8)
    half = 2**0.5  # between the levels
    place = 2 * torch.hypot(torch.arange(8.0)[:, None], torch.arange(8.0)).div(16).div(0.125).log2()
    place[0, 0] = -1
    torch.testing.assert_close(got[0], half * 2 ** place.clamp(0, 2), rtol=1e-4, atol=0)
    # Beyond the levels the ratio stays.
    for sigma, last in ((0.01, 0), (9.0, 1)):
        got = table.covariance(sigma, 8, 8).power / expected(gaussian, sigma, 8, 8)
        assert float(got[1, 0, 0]) == pytest.approx(float(ratio[last, 0, 0]), rel=1e-4)


def test_a_ring_without_frequencies_is_like_the_one_before(gaussian):
    pictures = draws(gaussian.model, 2, 8, 64)
    found = calibrate_by_frequency(
        gaussian.model, gaussian.model.linear, pictures, sigmas=(0.1, 1.0), draws=1
    )
    assert bool(torch.isfinite(found.ratio).all())
    torch.testing.assert_close(found.ratio[..., 1], found.ratio[..., 0])
