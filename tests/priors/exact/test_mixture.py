"""The mixture prior against densities, quadrature and derivatives."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.exact.mixture import MixturePrior

SHAPE = (1, 2, 3)


@pytest.fixture(scope="module")
def means():
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def log_density(x, sigma, means, std, weights):
    """log p(x_t) of a mixture over whole images, [B]."""
    components = [
        torch.distributions.Independent(torch.distributions.Normal(mean, sqrt(float(s) ** 2 + sigma**2)), 3)
        for mean, s in zip(means, std, strict=True)
    ]
    logs = torch.stack([component.log_prob(x) for component in components]) + weights.log()[:, None]
    return logs.logsumexp(0)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 20.0])
@pytest.mark.parametrize("constant", [False, True])
def test_tweedie(means, sigma, constant):
    std = torch.tensor([0.1, 0.3, 0.2, 0.5], dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    given = torch.tensor([-1.0, -0.3, 0.2, 0.9], dtype=torch.float64) if constant else means
    images = given.reshape(-1, 1, 1, 1).expand(-1, *SHAPE) if constant else means
    x = torch.randn(
        5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).requires_grad_()
    (score,) = torch.autograd.grad(log_density(x, sigma, images, std, weights).sum(), x)
    prior = MixturePrior(given, std, weights)
    torch.testing.assert_close(prior.denoise(x.detach(), sigma), x.detach() + sigma**2 * score)
    both = prior.denoise(x.detach(), torch.tensor([sigma, 1.0, 2.0, 3.0, sigma]))
    torch.testing.assert_close(both[4:], prior.denoise(x.detach()[4:], sigma), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 20.0])
def test_two_modes_an_element(sigma):
    m, s = 0.6, 0.2
    x = 2 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v = s**2 + sigma**2
    expected = (s**2 * x + sigma**2 * m * torch.tanh(m * x / v)) / v
    prior = MixturePrior(torch.tensor([-m, m], dtype=torch.float64), s, elementwise=True)
    torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=1e-10, atol=1e-10)
    each = prior.denoise(x, torch.tensor([1.0, sigma], dtype=torch.float64))
    torch.testing.assert_close(each[1], expected[1], rtol=1e-10, atol=1e-10)


def test_an_elementwise_mixture_of_images_is_one_mixture_for_each_element(means):
    prior = MixturePrior(means, 0.3, elementwise=True)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    denoised = prior.denoise(x, 0.4)
    one = MixturePrior(means[:, 0, 1, 2], 0.3)
    torch.testing.assert_close(denoised[:, :1, 1:2, 2:3], one.denoise(x[:, :1, 1:2, 2:3], 0.4))


def test_one_component_is_a_gaussian(means):
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = GaussianPrior(means[0], 0.3).denoise(x, 0.7)
    torch.testing.assert_close(MixturePrior(means[:1], 0.3).denoise(x, 0.7), expected)


def test_large_images_and_extreme_noise_stay_finite():
    means = torch.stack([torch.full((3, 128, 128), value) for value in (-0.9, 0.0, 0.9)])
    prior = MixturePrior(means, 1e-3)
    for sigma in (1e-3, 1.0, 1e3):
        x = means[2:] + sigma * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
        assert prior.denoise(x, sigma).isfinite().all()
    torch.testing.assert_close(
        prior.denoise(means[2:] + 0.01, 0.01), means[2:] + 0.01 / 101, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("elementwise", [False, True])
def test_samples_have_its_moments(elementwise):
    batch, weights = 4000, torch.tensor([0.3, 0.7])
    prior = MixturePrior(torch.tensor([-0.6, 0.6]), 0.2, weights, elementwise=elementwise)
    x = prior.sample((1, 1, 2), RandomStreams(range(batch)))
    share = (x > 0).double().mean(0)
    assert float((share - 0.7).abs().max()) < 4.5 * sqrt(0.21 / batch)
    assert float((x.abs().mean() - 0.6).abs()) < 4.5 * 0.2 / sqrt(2 * batch) + 1e-3
    agree = float((x[..., 0] * x[..., 1] > 0).double().mean())
    # One choice for the whole image: its elements agree but for the tails beyond 3 std. One for each: 0.3^2 + 0.7^2.
    assert agree == pytest.approx(
        0.58 if elementwise else 0.997, abs=4.5 * 0.5 / sqrt(batch) if elementwise else 0.005
    )


def test_samples_of_images(means):
    prior = MixturePrior(means, 1e-4)
    x = prior.sample(SHAPE, RandomStreams(range(200))).double()
    nearest = torch.cdist(x.flatten(1), means.flatten(1))
    assert float(nearest.min(1).values.max()) < 1e-3
    assert len(nearest.argmin(1).unique()) == 4


@pytest.mark.parametrize("sigma", [0.05, 0.5, 20.0])
def test_the_covariance_is_the_mean_error_of_the_denoiser(sigma):
    single = MixturePrior(torch.full((1, *SHAPE), 0.3), 0.4)
    expected = 1 / (1 / 0.4**2 + 1 / sigma**2)  # one component: a Gaussian
    assert float(single.denoising_covariance(sigma).isotropic) == pytest.approx(expected, rel=0.05)


def test_the_covariance_of_elements_is_the_one_of_quadrature():
    prior, sigma = MixturePrior(torch.tensor([-0.6, 0.6]), 0.2, elementwise=True), 0.5
    x = torch.linspace(-6, 6, 40001, dtype=torch.float64)
    parts = [
        torch.distributions.Normal(mean, sqrt(0.2**2 + sigma**2)).log_prob(x).exp() / 2
        for mean in (-0.6, 0.6)
    ]
    within = 0.2**2 * sigma**2 / (0.2**2 + sigma**2)
    means = [(0.2**2 * x + sigma**2 * mean) / (0.2**2 + sigma**2) for mean in (-0.6, 0.6)]
    density = parts[0] + parts[1]
    centre = (parts[0] * means[0] + parts[1] * means[1]) / density
    between = (parts[0] * means[0] ** 2 + parts[1] * means[1] ** 2) / density - centre**2
    expected = float(torch.trapezoid(density * (within + between), x))
    assert float(prior.denoising_covariance(sigma).isotropic) == pytest.approx(expected, rel=0.05)
    assert MixturePrior(torch.tensor([-0.6, 0.6]), 0.2).denoising_covariance(sigma) is None


@pytest.mark.parametrize("elementwise", [False, True])
@pytest.mark.parametrize("std", [0.2, [0.2, 0.3, 0.1]])
@pytest.mark.parametrize("images", [False, True])
def test_the_conditional_covariance_is_the_derivative_of_the_denoiser(elementwise, std, images):
    """Cov[x0 | x_t] = sigma^2 dD/dx: the second-order Tweedie formula."""
    shape, sigma = (2, 3, 2), 0.6
    draw = torch.Generator().manual_seed(3)
    means = torch.randn((3, *shape), generator=draw) / 3 if images else torch.tensor([-0.4, 0.1, 0.3])
    std = torch.tensor(std) if isinstance(std, list) else std
    prior = MixturePrior(means, std, torch.tensor([1.0, 2.0, 3.0]), elementwise=elementwise)
    x = torch.randn((4, *shape), generator=draw, dtype=torch.float64) / 2
    covariance = prior.conditional_covariance(x, sigma)
    v = torch.randn((4, *shape), generator=draw, dtype=torch.float64)
    product = torch.autograd.functional.jvp(lambda z: prior.denoise(z, sigma), x, v)[1] * sigma**2
    torch.testing.assert_close(covariance.multiply(v), product, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(covariance.sqrt(covariance.sqrt(v)), product, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(covariance.precision(product), v, rtol=1e-8, atol=1e-10)
    assert covariance.sqrt(v.float()).dtype == torch.float32
