"""The Gaussian denoiser against dense linear algebra in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from daps_priors.trained.wiener import GaussianDenoiser, haar, unhaar

SHAPE = (3, 8, 12)


def correlated(count: int, seed: int = 0) -> Tensor:
    """Images with smooth structure, a colour cast and a mean that varies over the place."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 2, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear", align_corners=False)
    mix = torch.tensor([[1.0, 0.5, 0.2], [0.4, 1.0, 0.3], [0.1, 0.6, 1.0]])
    fine = 0.1 * torch.randn(count, *SHAPE, generator=generator)
    ramp = torch.linspace(-0.5, 0.5, SHAPE[1] * SHAPE[2]).reshape(SHAPE[1:])
    return 0.3 * torch.einsum("nchw,cd->ndhw", smooth + fine, mix) + ramp


@pytest.fixture(scope="module")
def model() -> GaussianDenoiser:
    return GaussianDenoiser.fit(correlated(200), components=6)


def dense(model: GaussianDenoiser) -> Tensor:
    """The covariance matrix of the model's Gaussian, built from its definition."""
    low, size = model.basis.shape[0], model.mean.numel()
    basis = model.basis.double()
    rest = model.rest.double()
    covariance = torch.zeros(size, size, dtype=torch.float64)
    covariance[:low, :low] = (
        rest * torch.eye(low) + basis @ torch.diag(model.variances.double() - rest) @ basis.T
    )
    rotation = torch.kron(model.colours.double(), torch.eye(low // SHAPE[0], dtype=torch.float64))
    for band in range(3):
        block = rotation @ torch.diag(model.details[band].double().flatten()) @ rotation.T
        at = low * (band + 1)
        covariance[at : at + low, at : at + low] = block
    transform = haar(torch.eye(size, dtype=torch.float64).reshape(size, *SHAPE)).flatten(1).T
    return transform.T @ covariance @ transform


def test_the_haar_transform_is_orthonormal_and_inverted() -> None:
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bands = haar(x)
    torch.testing.assert_close(unhaar(bands), x, rtol=0, atol=1e-14)
    torch.testing.assert_close(bands.square().sum(), x.square().sum(), rtol=1e-13, atol=0)
    averages = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(bands[:, 0], 2 * averages, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 20.0, 200.0])
def test_it_is_the_posterior_mean_of_its_gaussian(model: GaussianDenoiser, sigma: float) -> None:
    covariance = dense(model)
    x0 = correlated(5, seed=2)
    x = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    centred = (x - model.mean).double().flatten(1)
    noise = sigma**2 * torch.eye(covariance.shape[0], dtype=torch.float64)
    gain = torch.linalg.solve(covariance + noise, covariance).T
    exact = model.mean.double() + (centred @ gain.T).reshape(x.shape)
    found = model(x, torch.tensor(sigma)).double()
    torch.testing.assert_close(found, exact, rtol=0, atol=4e-6 * max(1.0, sigma**0.5))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 30.0])
def test_the_root_mean_squared_error_is_that_of_the_gaussian(model: GaussianDenoiser, sigma: float) -> None:
    eigenvalues = torch.linalg.eigvalsh(dense(model))
    error = (eigenvalues * sigma**2 / (eigenvalues + sigma**2)).mean().sqrt()
    removed = (sigma**4 / (eigenvalues + sigma**2)).mean().sqrt()
    found = model.rms_error(torch.tensor(sigma))
    torch.testing.assert_close(found[0].double(), error[None], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[1].double(), removed[None], rtol=1e-5, atol=0)


def test_the_predicted_error_is_the_measured_one(model: GaussianDenoiser) -> None:
    images = correlated(2000, seed=4)
    for sigma in (0.05, 0.3, 2.0):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
        measured = (model(images + sigma * noise, torch.tensor(sigma)) - images).square().mean().sqrt()
        torch.testing.assert_close(measured, model.rms_error(torch.tensor(sigma))[0][0], rtol=0.03, atol=0)


def test_the_moments_are_those_of_the_images() -> None:
    images = correlated(300)
    fitted = GaussianDenoiser.fit(images, components=72)
    torch.testing.assert_close(fitted.mean, images.mean(0), rtol=0, atol=1e-6)
    low = haar(images.double() - images.double().mean(0))[:, 0].flatten(1)
    power = torch.linalg.svdvals(low).square() / len(images)
    torch.testing.assert_close(fitted.variances.double(), power[:72], rtol=1e-4, atol=1e-7)


def test_few_images_limit_the_components() -> None:
    fitted = GaussianDenoiser.fit(correlated(5), components=50)
    assert len(fitted.variances) == 4
    gram = fitted.basis.T @ fitted.basis
    torch.testing.assert_close(gram, torch.eye(4), rtol=0, atol=1e-5)


def test_every_sample_may_have_its_own_sigma(model: GaussianDenoiser) -> None:
    x = correlated(3, seed=6)
    sigma = torch.tensor([0.05, 0.7, 9.0])
    together = model(x, sigma)
    alone = torch.cat([model(x[i : i + 1], sigma[i]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)


def test_flat_images_stay_finite() -> None:
    fitted = GaussianDenoiser.fit(torch.zeros(10, 1, 8, 8), components=4)
    found = fitted(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(7)), torch.tensor(0.01))
    assert torch.isfinite(found).all()
    assert found.abs().max() < 0.01


def test_odd_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="even sides, not 7 x 8"):
        GaussianDenoiser((1, 7, 8), 4)
