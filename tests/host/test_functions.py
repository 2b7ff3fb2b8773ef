"""Functions as operators, priors and noise: what they compute, and what is told of those that cannot be used."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor, nn

from daps_kit.contracts import LinearOperator
from daps_kit.errors import UserError
from daps_kit.functions import DistributionNoise, FunctionPrior, make_operator
from daps_kit.noise import GaussianNoise
from daps_kit.random import RandomStreams
from daps_kit.testing import check_noise, check_operator, check_prior

SHAPE = (2, 6, 5)
NOISE = GaussianNoise(0.1)


def make(function, **options):
    return make_operator(function, SHAPE, NOISE, label="f", **options)


def blurred(x: Tensor) -> Tensor:
    return (x + x.roll(1, -1)) / 2


def test_operators_are_as_the_contract_says() -> None:
    check_operator(make(lambda x: (x * 2).tanh()))
    check_operator(make(blurred, linear=True))
    check_operator(make(blurred, adjoint=lambda y: (y + y.roll(-1, -1)) / 2))


def test_an_adjoint_makes_an_operator_linear_and_needs_no_autograd() -> None:
    def detached(x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)

    operator = make(detached, adjoint=lambda y: 2 * y)
    assert isinstance(operator, LinearOperator)
    x = torch.rand(1, *SHAPE)
    torch.testing.assert_close(operator.solve_normal(x, 1.0), x / 5)
    with pytest.raises(UserError, match="f: cannot be differentiated; .*give linear=True and its adjoint"):
        make(detached)


class Stateful:
    calls = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        Stateful.calls += 1
        return x * Stateful.calls


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("it has no words")


def raising(error: Exception):
    def function(x):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[0], r"returned the shape \[2, 6, 5\] for 2 images|an image gives something else alone"),
        (lambda x: x.sum(), r"returned the shape \[\] for 2 images \[2, 2, 6, 5\]; it takes a batch"),
        (lambda x: x.numpy(), "returned ndarray for images"),
        (lambda x: x.double(), "returned torch.float64 on cpu for images of torch.float32"),
        (torch.fft.fft2, "of type torch.complex64, not real ones; torch.view_as_real"),
        (lambda x: (x > 0).long(), "of type torch.int64, not real ones"),
        (lambda x: x / 0, "not finite"),
        (lambda x: x - x.mean(), "an image gives something else alone than in a batch"),
        (lambda x: x @ torch.ones(7, 7), "failed on images .* RuntimeError"),
        (lambda x: {}["kernel"], "failed on images .* KeyError: 'kernel'"),
        (lambda x: sys.exit(3), "failed on images .* SystemExit: 3"),
        (raising(Mute()), "failed on images .* Mute: $"),
        (Stateful(), "two calls with the same images differ; .*eval mode"),
        (lambda x: x.round().detach(), "cannot be differentiated"),
    ],
)
def test_what_cannot_be_an_operator_is_told_in_a_line(function, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(function)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: x + 1, {"linear": True}, "said to be linear, but"),
        (lambda x: x.clamp(-1, 1), {"linear": True}, "said to be linear, but"),
        (blurred, {"adjoint": blurred}, "its adjoint is not the adjoint: <A x, u> = .* and <x, A\\^T u> = "),
        (
            blurred,
            {"adjoint": lambda y: y[..., 1:]},
            r"its adjoint returned \[2, 2, 6, 4\] for 2 measurements",
        ),
    ],
)
def test_what_is_not_linear_is_told(function, options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(function, **options)


def test_networks_are_constants() -> None:
    network = nn.Conv2d(2, 2, 3, padding=1, dtype=torch.float32)
    operator = make(network)
    assert not operator.forward(torch.rand(1, *SHAPE)).requires_grad
    y, vjp = operator.forward_vjp(torch.rand(1, *SHAPE))
    assert vjp(torch.ones_like(y)).shape == (1, *SHAPE)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    with pytest.raises(UserError, match="eval mode"):
        make(nn.Sequential(network, nn.Dropout()))
    prior = FunctionPrior(lambda x, sigma: x / (1 + sigma), label="p")
    assert prior.denoise(torch.ones(1, *SHAPE), 1.0)[0, 0, 0, 0] == 0.5


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (2, 1, 6, 5), (2, 2, 6, 5), (2, 7), (2, 4, 5)])
def test_any_measurement_has_a_picture(shape: tuple[int, ...]) -> None:
    y = 5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    picture = make(lambda x: x).to_image(y)
    assert picture.ndim == 4
    assert len(picture) == 2
    assert picture.shape[1] in (1, 3)
    assert picture.shape[2] * picture.shape[3] >= y[0].numel() // (shape[1] if len(shape) == 4 else 1)
    assert -1 <= picture.min() < picture.max() <= 1


def test_a_denoiser_sees_one_sigma_at_a_time() -> None:
    seen: list[float] = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.ndim == 0
        seen.append(float(sigma))
        return x / (1 + sigma**2)

    prior = FunctionPrior(denoiser, label="f", shape=(1, 4, 4), sigma_range=(0.1, 5))
    assert (prior.shape, prior.sigma_range) == ((1, 4, 4), (0.1, 5.0))
    x = torch.ones(3, 1, 4, 4)
    prior.denoise(x, torch.full((3,), 2.0))
    assert seen == [2.0]
    found = prior.denoise(x, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([1 / 2, 1 / 5, 1 / 10]))
    check_prior(prior)
    with pytest.raises(UserError, match=r"f: returned \[3, 1, 4\] for noisy images \[3, 1, 4, 4\]"):
        FunctionPrior(lambda x, sigma: x[..., 0], label="f").denoise(x, 1.0)


def test_a_normal_distribution_is_gaussian_noise() -> None:
    noise = DistributionNoise(lambda clean: torch.distributions.Normal(clean, 0.2), label="f")
    exact = GaussianNoise(0.2)
    clean, y = torch.zeros(2, 1, 4, 4), torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
    torch.testing.assert_close(noise.log_density(clean, y), exact.log_density(clean, y))
    torch.testing.assert_close(noise.std(clean), exact.std(clean))
    low, high = y - 0.1, y + 0.3
    torch.testing.assert_close(
        noise.log_probability(clean, low, high), exact.log_probability(clean, low, high), rtol=1e-4, atol=1e-4
    )
    check_noise(noise)


def test_a_distribution_without_quantiles_is_drawn_from_its_stream() -> None:
    noise = DistributionNoise(lambda clean: torch.distributions.StudentT(6.0, clean, 0.1), label="f")
    clean = torch.zeros(2, 1, 64, 64)
    before = torch.get_rng_state()
    drawn = noise.sample(clean, RandomStreams([1, 2]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[1:], noise.sample(clean[1:], RandomStreams([2])))
    assert not torch.equal(drawn[0], drawn[1])
    assert float(drawn.std()) == pytest.approx(0.1 * math.sqrt(6 / 4), rel=0.05)
    check_noise(noise)


def test_heavy_tails_have_a_width() -> None:
    clean = torch.zeros(1, 1, 2, 2)
    cauchy = DistributionNoise(lambda c: torch.distributions.Cauchy(c, 0.1), label="f")
    assert float(cauchy.std(clean).mean()) == pytest.approx(0.1 * math.tan(math.pi * 0.3413447), rel=1e-3)
    laplace = DistributionNoise(lambda c: torch.distributions.Laplace(c, 0.1), label="f")
    y = torch.full_like(clean, 0.37)
    torch.testing.assert_close(laplace.std(clean), torch.full_like(clean, 0.1 * math.sqrt(2)))
    torch.testing.assert_close(laplace.misfit(clean, y) / 2, torch.full_like(y, 3.7))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda c: c, "returned Tensor, not a torch.distributions.Distribution"),
        (lambda c: torch.distributions.Normal(0.0, 1.0), "it has to be one for each element"),
        (lambda c: torch.distributions.Normal(c, -1.0), "cannot be the noise of such a measurement"),
    ],
)
def test_what_cannot_be_noise_is_told(function, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DistributionNoise(function, label="f").log_density(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
