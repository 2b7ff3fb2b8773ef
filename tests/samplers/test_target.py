"""The operator as a function of the latent, against automatic differentiation of the composition."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import LinearOperator, Operator, Prior, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.noise import GaussianNoise
from daps_operators import GaussianBlur, PhaseRetrieval
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import Daps, Langevin
from daps_samplers.target import DecodedOperator, ExactScoreTarget, GaussianTarget, of_states
from tests.samplers.toy_target import SHAPE, gaussian_target


def problem(toy_latent):
    generator = torch.Generator().manual_seed(0)
    arrays = {
        "W": torch.randn(3, 4, generator=generator).numpy(),
        "b": torch.randn(3, generator=generator).numpy(),
    }
    prior = toy_latent(arrays, 0.0, 0.5)
    operator = PhaseRetrieval().build(shape=(3, 16, 16), seed=0, device=torch.device("cpu"))
    return prior, operator, torch.randn(2, 4, 8, 8, generator=generator)


def test_derivatives_go_through_the_decoder(toy_latent):
    prior, operator, z = problem(toy_latent)
    decoded = DecodedOperator(operator, prior, (4, 8, 8))

    def composition(z):
        return operator.forward(prior.decode(z))

    v = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    y, expected = torch.autograd.functional.jvp(composition, z, v)
    torch.testing.assert_close(decoded.forward(z), y)
    torch.testing.assert_close(decoded.jvp(z, v), expected, rtol=1e-4, atol=1e-4)
    clean, vjp = decoded.forward_vjp(z)
    torch.testing.assert_close(clean, y)
    u = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    for _ in range(2):  # the map may be used again
        torch.testing.assert_close((vjp(u) * v).sum(), (u * expected).sum(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(decoded.to_image(y), operator.to_image(y))
    assert isinstance(decoded.noise, GaussianNoise)


class Middle(Prior):
    """A decoder that crops."""

    linear_decoder = True

    def denoise(self, x, sigma):
        return x

    def decode(self, z):
        return z[..., 2:-2, 2:-2]


def test_a_linear_operator_stays_one_behind_a_linear_decoder(toy_latent):
    blur = GaussianBlur(kernel_size=5).build(shape=(1, 8, 8), seed=0, device=torch.device("cpu"))
    operator = of_states(blur, Middle(), (1, 12, 12))
    assert isinstance(operator, LinearOperator)
    z, y = (torch.randn(1, 1, n, n, generator=torch.Generator().manual_seed(n)) for n in (12, 8))
    torch.testing.assert_close(operator.forward(z), blur.forward(z[..., 2:-2, 2:-2]))
    torch.testing.assert_close((operator.adjoint(y) * z).sum(), (y * operator.forward(z)).sum())
    assert torch.equal(operator.to_image(y), blur.to_image(y))
    nonlinear = PhaseRetrieval().build(shape=(1, 8, 8), seed=0, device=torch.device("cpu"))
    assert isinstance(of_states(nonlinear, Middle(), (1, 12, 12)), DecodedOperator)
    assert of_states(blur, GaussianPrior(torch.zeros(1, 8, 8), std=0.5), (1, 8, 8)) is blur


class Attentive(Prior):
    """A decoder as a stranger may write it: with the library's attention, whose fused kernels differentiate once."""

    def denoise(self, x, sigma):
        return x

    def decode(self, z):
        tokens = z.flatten(2).transpose(1, 2)[:, None].contiguous()  # [B, 1, h w, c]
        mixed = torch.nn.functional.scaled_dot_product_attention(tokens, 2 * tokens, tokens)
        return mixed[:, 0].transpose(1, 2).reshape(z.shape)


def test_decoders_with_fused_attention_have_a_directional_derivative():
    z, v = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    prior, operator = Attentive(), PhaseRetrieval().build(shape=(3, 8, 8), seed=0, device=torch.device("cpu"))
    with pytest.raises(RuntimeError, match="attention.*backward is not implemented"):
        Operator.jvp(DecodedOperator(operator, prior, (3, 8, 8)), z, v)

    def composition(z):
        return operator.forward(prior.decode(z))

    h = 1e-5
    z, v = z.double(), v.double()
    expected = (composition(z + h * v) - composition(z - h * v)) / (2 * h)
    found = DecodedOperator(operator, prior, (3, 8, 8)).jvp(z, v)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    single = DecodedOperator(operator, prior, (3, 8, 8)).jvp(z.float(), v.float())
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-3)


def test_a_latent_run_keeps_to_the_latent_space(toy_latent):
    prior, operator, z = problem(toy_latent)
    y = operator.measure(prior.decode(z), RandomStreams([1, 2]))
    sampler = Daps(annealing=dict(levels=3, sigma_max=10.0), kernel=Langevin(steps=3, lr=1e-5)).build()
    for step in sampler.sample(prior, operator, y, RandomStreams([3, 4])):
        assert step.x0y.shape == step.x_t.shape == (2, 4, 8, 8)
        assert not step.failed.any()
    assert prior.decode(step.x0y).shape == (2, 3, 16, 16)


def test_the_gradient_is_that_of_the_density(scaled_operator):
    target = gaussian_target(scaled_operator, 2, (1, 3, 3))
    x = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value, gradient = target.log_density_grad(x.detach())
    torch.testing.assert_close(value, target.log_density(x.detach()))
    (expected,) = torch.autograd.grad(target.log_density(x).sum(), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("settings", "std"), [({}, 0.05), ({"tau": 0.01}, 0.01), ({"kernel": Langevin(tau=0.02)}, 0.02)]
)
def test_tau_replaces_the_noise(scaled_operator, settings, std):
    conditional = Daps(**settings).build().conditional
    x = torch.zeros(1, *SHAPE)
    prior, operator = GaussianPrior(0.0, 0.5), scaled_operator(1.0, 0.05, SHAPE)
    assert conditional.target(prior, operator, x, x, x, 1.0).likelihood_variance == std**2


@pytest.mark.parametrize("exact", [False, True])
def test_a_target_at_another_operator_is_that_of_the_operator(exact):
    prior = GaussianPrior(torch.zeros(SHAPE), std=0.5)
    shape, device = SHAPE, torch.device("cpu")
    one, other = (
        GaussianBlur(kernel_size=5, intensity=intensity).build(shape=shape, seed=0, device=device)
        for intensity in (0.5, 1.5)
    )
    draws = torch.Generator().manual_seed(0)
    x, y, centre = (torch.randn(2, *SHAPE, generator=draws) for _ in range(3))

    def target(operator, variance):
        found = GaussianTarget(
            centre, Isotropic(torch.tensor(0.3)), operator, y, sigma=0.5, likelihood_variance=variance
        )
        return ExactScoreTarget(found, prior, 0.1) if exact else found

    moved, expected = target(one, 0.2).at(other, 0.1), target(other, 0.1)
    assert torch.equal(moved.log_density_grad(x)[1], expected.log_density_grad(x)[1])
    assert not torch.equal(moved.log_density_grad(x)[1], target(one, 0.2).log_density_grad(x)[1])
