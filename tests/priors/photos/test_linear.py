"""The linear denoiser of photographs against dense algebra, and its fit against a field of known spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from daps_priors.photos.linear import LinearDenoiser, frequencies


def dense(linear: LinearDenoiser, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [d] and covariance [d, d] of flattened pictures, in double precision, by scipy's transform."""
    d = 3 * height * width
    rows = np.arange(height)[:, None] / (2 * height), np.arange(width)[None] / (2 * width)
    f = np.hypot(*rows)
    f[0, 0] = 1 / (4 * max(height, width))
    level, slope = linear.level.double().numpy(), linear.slope.double().numpy()
    power = np.exp(level[:, None, None]) * f ** -slope[:, None, None]
    q = linear.colours.double().numpy()
    unit = np.einsum("bchw,cd->bdhw", np.eye(d).reshape(d, 3, height, width), q)
    products = idctn(dctn(unit, axes=(2, 3), norm="ortho") * power, axes=(2, 3), norm="ortho")
    covariance = np.einsum("bdhw,cd->bchw", products, q).reshape(d, d)
    mean = np.broadcast_to(linear.mean.double().numpy()[:, None, None], (3, height, width)).ravel()
    return mean, covariance


@pytest.mark.parametrize("size", [(6, 9), (8, 8)])
@pytest.mark.parametrize("sigma", [0.02, 0.3, 5.0])
def test_it_is_the_posterior_mean(model, size, sigma):
    mean, covariance = dense(model.linear, *size)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(4))
    wanted = mean + (x.flatten(1).double().numpy() - mean) @ np.linalg.solve(
        covariance + sigma**2 * np.eye(len(mean)), covariance
    )
    denoised, removed = model.linear(x, torch.full((2,), sigma))
    np.testing.assert_allclose(denoised.flatten(1).numpy(), wanted, rtol=1e-4, atol=1e-5)
    wanted_removed = x.flatten(1).double().numpy() - wanted
    np.testing.assert_allclose(removed.flatten(1).numpy(), wanted_removed, rtol=1e-3, atol=1e-5 * sigma)


def test_the_root_mean_squares_are_those_of_the_reference_size(model):
    sigma = torch.tensor([0.01, 0.2, 3.0])
    error, size = model.linear.rms(sigma)
    torch.testing.assert_close(error.square() + size.square(), sigma.square(), rtol=1e-5, atol=0)
    spectrum = model.linear.spectrum(64, 64)
    draws = 0.2**2 * spectrum / (spectrum + 0.2**2)  # E|D - x0|^2 of the Gaussian, by frequency
    assert float(error[1].square()) == pytest.approx(float(draws.mean()), rel=1e-5)


def test_the_fit_finds_the_power_law(model):
    generator = torch.Generator().manual_seed(5)
    pictures = []
    for height, width in [(128, 128), (96, 128)] * 4:
        spectrum = model.linear.spectrum(height, width)
        spectrum[:, 0, 0] = 0
        z = (spectrum.sqrt() * torch.randn(3, height, width, generator=generator)).numpy()
        field = torch.from_numpy(idctn(z, axes=(1, 2), norm="ortho"))
        pictures.append(
            torch.einsum("dhw,cd->chw", field, model.linear.colours) + model.linear.mean[:, None, None]
        )
    found = LinearDenoiser.fit(pictures)
    torch.testing.assert_close(found.mean, model.linear.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.slope, model.linear.slope, rtol=0.03, atol=0)
    middle = [linear.spectrum(64, 64)[:, 4, 4] for linear in (found, model.linear)]
    torch.testing.assert_close(*middle, rtol=0.1, atol=0)
    turned = (found.colours.T @ model.linear.colours).abs()
    torch.testing.assert_close(turned, torch.eye(3), rtol=0, atol=0.1)


def test_the_frequencies_are_cycles_a_pixel():
    f = frequencies(8, 4)
    assert f[1, 0] == 1 / 16
    assert f[0, 2] == 2 / 8
    assert f[0, 0] == 1 / 32
    assert f[3, 1] == pytest.approx(((3 / 16) ** 2 + (1 / 8) ** 2) ** 0.5)
