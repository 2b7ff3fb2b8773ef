"""The denoiser of photographs: any size, tiles that are the whole, and both limits."""

from __future__ import annotations

import pytest
import torch

from daps_kit.covariance import cosine_inverse
from daps_priors.photos.denoiser import PhotoDenoiser, mirrored


def picture(*shape: int, seed: int = 6) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "pixels"), [((250, 203), 9_000), ((96, 331), 4_000), ((200, 47), 1)])
def test_tiles_are_the_whole(model, size, pixels):
    x, sigma = picture(2, 3, *size), torch.tensor([0.1, 2.0])
    with torch.no_grad():
        whole = model(x, sigma, pixels=10**9)
        assert float((whole - model.linear(x, sigma)[0]).abs().max()) > 0.01  # the U-Net says something
        torch.testing.assert_close(model(x, sigma, pixels=pixels), whole, rtol=0, atol=2e-6)


def test_a_picture_with_gradients_is_not_cut(model, monkeypatch):
    """What is computed on the way is kept for them at any rate."""
    x, sigma = picture(1, 3, 64, 48).requires_grad_(), torch.tensor([0.5])
    (whole,) = torch.autograd.grad(model(x, sigma, pixels=10**9).square().sum(), x)
    monkeypatch.setattr("daps_priors.photos.tiles.tiling", None)
    (given,) = torch.autograd.grad(model(x, sigma, pixels=1000).square().sum(), x)
    assert torch.equal(given, whole)


def test_a_batch_that_is_too_large_is_split(model):
    x, sigma = picture(5, 3, 16, 24), torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0])
    torch.testing.assert_close(model(x, sigma, pixels=2 * 16 * 24), model(x, sigma), rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (15, 8), (33, 17)])
def test_any_size(model, size):
    x, sigma = picture(2, 3, *size), torch.tensor([0.3, 1.0])
    denoised = model(x, sigma)
    assert denoised.shape == x.shape
    padded = mirrored(x, 8)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert torch.equal(padded[:, :, : size[0], : size[1]], x)
    grown = torch.cat((x, x.flip(2)), dim=2)[:, :, : padded.shape[2]]
    assert torch.equal(padded, torch.cat((grown, grown.flip(3)), dim=3)[..., : padded.shape[3]])


def test_the_limits(model):
    x0 = model.linear.mean[:, None, None] + 0.1 * picture(2, 3, 24, 32)
    noise = picture(2, 3, 24, 32, seed=7)
    for sigma in (1e-4, 1e-3, 1e-2):
        moved = model(x0 + sigma * noise, torch.tensor(sigma)) - (x0 + sigma * noise)
        assert float(moved.square().mean().sqrt()) < 2 * sigma
    for sigma in (1e5, 1e6):
        denoised = model(x0 + sigma * noise, torch.tensor(sigma))
        gap = (denoised - model.linear.mean[:, None, None]).abs().max()
        assert float(gap) < 2e4 / sigma
    # Beyond its noise levels the U-Net is told the last one, and counts less and less.
    x = x0 + 40 * noise
    linear, features, error = model.prepared(x, torch.full((2,), 40.0))
    correction = model.unet(features, torch.full((2,), 20.0).log())
    torch.testing.assert_close(model(x, torch.tensor(40.0)), linear + 0.5 * error * correction)


def test_the_features_are_of_unit_size(model):
    """On pictures of the linear denoiser's own distribution, at the reference size."""
    spectrum = model.linear.spectrum(64, 64)
    field = cosine_inverse(spectrum.sqrt() * picture(32, 3, 64, 64))
    x0 = torch.einsum("ndhw,cd->nchw", field, model.linear.colours) + model.linear.mean[:, None, None]
    for sigma in (0.05, 0.5, 5.0):
        level = torch.full((32,), sigma)
        x = x0 + sigma * picture(32, 3, 64, 64, seed=8)
        linear, features, error = model.prepared(x, level)
        torch.testing.assert_close(features[:, :3], linear)
        assert float(features[:, 3:].square().mean()) == pytest.approx(1, rel=0.03)
        assert float(((linear - x0) / error).square().mean()) == pytest.approx(1, rel=0.1)


def test_bfloat16_is_near(model):
    x, sigma = picture(1, 3, 40, 40), torch.tensor([0.3])
    single, half = model(x, sigma), model(x, sigma, dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    assert not torch.equal(single, half)
    change = float((half - single).square().mean().sqrt())
    assert change < 0.03 * float((single - model.linear(x, sigma)[0]).square().mean().sqrt())


def test_grey_pictures(lively):
    model = PhotoDenoiser(1, widths=(8, 8), blocks=(1, 1), embedding=8)
    lively(model)
    assert model(picture(2, 1, 11, 13), torch.tensor(0.5)).shape == (2, 1, 11, 13)
