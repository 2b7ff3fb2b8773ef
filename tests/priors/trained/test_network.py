"""The learned denoiser: its limits, and where training starts."""

from __future__ import annotations

import pytest
import torch

from daps_priors.trained.network import Denoiser, blank
from daps_priors.trained.wiener import GaussianDenoiser
from tests.priors.trained.small import NETWORK, SHAPE, images


def test_it_starts_as_the_linear_denoiser() -> None:
    fresh = blank(SHAPE, **NETWORK)
    fresh.gauss = GaussianDenoiser.fit(images(100, 0), 8)
    x, sigma = (
        torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2)),
        torch.tensor([0.01, 0.3, 4, 90.0]),
    )
    torch.testing.assert_close(fresh(x, sigma), fresh.gauss(x, sigma), rtol=0, atol=0)


def test_without_noise_it_returns_its_input(model: Denoiser) -> None:
    x = images(4, 3)
    assert (model(x, torch.tensor(1e-4)) - x).abs().max() < 1e-3


def test_in_pure_noise_it_stays_near_the_mean(model: Denoiser) -> None:
    x = 1e4 * torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(4))
    spread = model.gauss.rms_error(torch.tensor(1e4))[0]
    linear, correction, error = model.parts(x, torch.tensor(1e4))
    torch.testing.assert_close(error.flatten(), spread.expand(4))
    assert (linear - model.gauss.mean).abs().max() < 2e-3
    torch.testing.assert_close(model(x, torch.tensor(1e4)), linear + spread * correction)


def test_input_and_target_of_the_network_have_unit_variance(model: Denoiser) -> None:
    x0 = images(500, 5)
    for sigma in (0.05, 0.5, 5.0):
        x = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(6))
        linear, _, error = model.parts(x[:4], torch.tensor(sigma))
        linear = model.gauss(x, torch.tensor(sigma))
        removed = model.gauss.rms_error(torch.tensor(sigma))[1]
        assert ((x0 - linear) / error[0]).square().mean() == pytest.approx(1, rel=0.1)
        assert ((x - linear) / removed).square().mean() == pytest.approx(1, rel=0.1)


def test_sigma_for_each_sample_and_for_all(model: Denoiser) -> None:
    x = images(3, 7)
    sigma = torch.tensor([0.1, 1.0, 10.0])
    alone = torch.cat([model(x[i : i + 1], s) for i, s in enumerate(sigma)])
    torch.testing.assert_close(model(x, sigma), alone, rtol=0, atol=2e-5)


def test_making_a_network_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    blank(SHAPE, **NETWORK)
    assert torch.equal(torch.random.get_rng_state(), before)
