"""The operator as a function of the latent, against automatic differentiation of the composition."""

from __future__ import annotations

import torch

from daps_kit.contracts import RandomStreams
from daps_kit.noise import GaussianNoise
from daps_operators import PhaseRetrieval
from daps_samplers import AnnealingSettings, Daps, Langevin
from daps_samplers.target import DecodedOperator


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


def test_a_latent_run_keeps_to_the_latent_space(toy_latent):
    prior, operator, z = problem(toy_latent)
    y = operator.measure(prior.decode(z), RandomStreams([1, 2]))
    sampler = Daps(
        annealing=AnnealingSettings(levels=3, sigma_max=10.0), kernel=Langevin(steps=3, lr=1e-5)
    ).build()
    for step in sampler.sample(prior, operator, y, RandomStreams([3, 4])):
        assert step.x0y.shape == step.x_t.shape == (2, 4, 8, 8)
        assert not step.failed.any()
    assert prior.decode(step.x0y).shape == (2, 3, 16, 16)
