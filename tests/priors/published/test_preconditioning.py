"""Preconditionings against what is known exactly: Gaussian data, schedules, and their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from daps_priors.published.preconditioning import (
    EDM,
    VE,
    VP,
    Discrete,
    cosine_betas,
    linear_betas,
    preconditioning,
)

MEAN, STD = 0.3, 0.7
SIGMAS = [0.02, 0.3, 2.0, 40.0]


def posterior_mean(x, sigma):
    """E[x0 | x0 + sigma n = x] for x0 ~ N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def exact_network(kind, sigma, sigma_data=0.5):
    """What a perfectly trained network of a kind returns, from its own input alone (and the noise level)."""

    def noise(z, _):
        # z = sqrt(a) x0 + sqrt(1 - a) n with a = 1 / (1 + sigma^2); E[n | z] by Gaussian conditioning.
        a = 1 / (1 + sigma**2)
        return (1 - a) ** 0.5 / (a * STD**2 + 1 - a) * (z - a**0.5 * MEAN)

    def negative_noise(z, _):
        return -sigma / (STD**2 + sigma**2) * (z - MEAN)

    def edm(z, _):
        # the regression target (x0 - c_skip x) / c_out given x = z / c_in
        total = (sigma**2 + sigma_data**2) ** 0.5
        x = z * total
        return (posterior_mean(x, sigma) - sigma_data**2 / total**2 * x) / (sigma * sigma_data / total)

    return {"ve": negative_noise, "edm": edm}.get(kind, noise)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("kind", ["vp", "ddpm", "iddpm", "ve", "edm"])
def test_an_exact_network_gives_the_exact_posterior_mean(kind, sigma):
    x = (1 + sigma) * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = preconditioning(kind).denoise(exact_network(kind, sigma), x, sigma)
    torch.testing.assert_close(found, posterior_mean(x, sigma), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["vp", "ddpm", "iddpm", "ve", "edm"])
def test_one_sigma_for_each_sample(kind):
    precondition = preconditioning(kind)
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))

    def network(z, c_noise):
        return z.sin() + c_noise.reshape(-1, 1, 1, 1).cos()

    together = precondition.denoise(network, x, torch.tensor(SIGMAS))
    for i, sigma in enumerate(SIGMAS):
        torch.testing.assert_close(together[i : i + 1], precondition.denoise(network, x[i : i + 1], sigma))


def test_input_and_target_of_edm_have_unit_variance():
    precondition = EDM(sigma_data=STD)
    generator = torch.Generator().manual_seed(1)
    x0, n = (
        STD * torch.randn(2, 200_000, generator=generator)[:1],
        torch.randn(1, 200_000, generator=generator),
    )
    for sigma in SIGMAS:
        c = precondition.coefficients(torch.tensor([sigma], dtype=torch.float64))
        x = x0 + sigma * n
        assert float((c.scale * x).var()) == pytest.approx(1, abs=0.02)
        assert float(((x0 - c.skip * x) / c.out).var()) == pytest.approx(1, abs=0.02)
        assert float(c.noise) == pytest.approx(math.log(sigma) / 4)
    assert float(VE().coefficients(torch.tensor([6.0])).noise) == pytest.approx(math.log(3))


@pytest.mark.parametrize(("beta_d", "beta_min", "steps"), [(19.9, 0.1, 1000), (10.0, 0.5, 500)])
def test_vp_times_invert_the_schedule(beta_d, beta_min, steps):
    precondition = VP(beta_d, beta_min, steps)
    t = torch.linspace(1e-4, 1, 50, dtype=torch.float64)
    sigma = torch.expm1(beta_d * t**2 / 2 + beta_min * t).sqrt()
    torch.testing.assert_close(precondition.time(sigma), (steps - 1) * t, rtol=1e-9, atol=1e-9)
    assert precondition.sigma_range[1] == pytest.approx(float(sigma[-1]))


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas(), linear_betas(250)])
def test_tables_give_back_their_steps(betas):
    a = torch.cumprod(1 - betas, 0)
    sigmas = ((1 - a) / a).sqrt()
    steps = torch.arange(len(betas), dtype=torch.float64)
    table = Discrete(betas)
    torch.testing.assert_close(table.time(sigmas), steps, rtol=1e-7, atol=1e-6)
    assert table.sigma_range == pytest.approx((float(sigmas[0]), float(sigmas[-1])))
    middle = (sigmas[10] * sigmas[11]).sqrt().reshape(1)
    assert float(table.time(middle)) == pytest.approx(10.5, abs=1e-6)
    beyond = torch.tensor([1e-6, 1e6], dtype=torch.float64)
    assert table.time(beyond).tolist() == [0, len(betas) - 1]
    nearest = Discrete(betas, nearest=True)
    assert nearest.time(beyond).tolist() == [0, len(betas) - 1]
    torch.testing.assert_close(nearest.time(sigmas), steps)
    shifted = sigmas[:-1] + 0.4 * (sigmas[1:] - sigmas[:-1])
    torch.testing.assert_close(nearest.time(shifted), steps[:-1])


def test_schedules_are_the_published_ones():
    linear = linear_betas()
    assert (float(linear[0]), float(linear[-1])) == pytest.approx((1e-4, 0.02))
    cosine = cosine_betas()
    assert float(cosine.max()) == 0.999
    ratio = math.cos(0.508 / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert float(torch.cumprod(1 - cosine, 0)[499]) == pytest.approx(ratio)
    # the published mapping differs from the network's own steps by up to three of a thousand
    sigma = torch.tensor([0.1, 0.3, 1.0, 3.0, 10.0], dtype=torch.float64)
    difference = (VP().time(sigma) - Discrete(linear).time(sigma)).abs()
    assert 0.3 < float(difference.min()) < float(difference.max()) < 3.5


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown preconditioning 'vpp'"):
        preconditioning("vpp")
