"""The linear filter that a denoiser is compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from daps_kit.prior_check.power_law import PowerLaw
from tests.host.prior_check.smooth import smooth


def test_the_linear_filter_is_the_wiener_filter_of_its_spectrum() -> None:
    images = smooth(5, seed=2, shape=(2, 5, 4)).double()
    linear = PowerLaw(images)
    basis = torch.eye(40, dtype=torch.float64).reshape(40, 2, 5, 4)
    sigma = 0.3
    filtered = (linear.denoise(linear.mean + basis, sigma) - linear.mean).reshape(40, 40)
    # The same matrix by dense algebra: C (C + sigma^2 I)^{-1} with C = Q F^T diag(S) F Q^T, F by its definition.
    transforms = []
    for n in (5, 4):
        k, i = np.arange(n)[:, None], np.arange(n)
        cosines = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * math.sqrt(2 / n)
        cosines[0] /= math.sqrt(2)
        transforms.append(cosines)
    whole = np.kron(linear.rotation.numpy().T, np.kron(*transforms))
    covariance = whole.T @ np.diag(linear.spectrum.ravel()) @ whole
    expected = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(40))
    np.testing.assert_allclose(filtered.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 2.0, 3.5])
def test_the_fit_finds_the_decay_of_a_spectrum(alpha: float) -> None:
    linear = PowerLaw(smooth(400, seed=3, shape=(1, 32, 24), alpha=alpha))
    slope = math.log(linear.spectrum[0, 0, 8] / linear.spectrum[0, 0, 2]) / math.log(4)
    assert slope == pytest.approx(-alpha, abs=0.05)
    assert linear.spectrum[0, 0, 3] == pytest.approx(16 * 4.0**-alpha, rel=0.08)  # 3 of 24 is 4 of 32


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_its_error_is_the_one_of_theory_on_images_of_its_distribution(sigma: float) -> None:
    images = smooth(400, seed=4, shape=(1, 16, 16))
    linear = PowerLaw(images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    error = float((linear.denoise(images + sigma * noise, sigma) - images).square().mean())
    spectrum = linear.spectrum
    assert error == pytest.approx(float((spectrum * sigma**2 / (spectrum + sigma**2)).mean()), rel=0.03)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 2), (1, 1, 7)])
def test_tiny_and_flat_images_have_a_filter(shape: tuple[int, int, int]) -> None:
    for images in (torch.zeros(2, *shape), torch.ones(1, *shape)):
        assert torch.isfinite(PowerLaw(images).denoise(images, 0.5)).all()
