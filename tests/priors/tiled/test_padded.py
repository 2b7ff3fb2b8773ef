"""Pictures smaller than the prior, against exact algebra on a stationary Gaussian field."""

from __future__ import annotations

import pytest
import torch

from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.tiled.padded import PaddedPrior

SIDE, SIZE, SIGMA = 12, (7, 9), 0.4


def field(height: int, width: int) -> torch.Tensor:
    """Covariance of a stationary field with an exponential kernel, [d, d]."""
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    return 0.25 * torch.exp(-torch.cdist(place, place) / 2)


@pytest.fixture(scope="module")
def prior() -> PaddedPrior:
    outer = GaussianPrior(torch.zeros(1, SIDE, SIDE), covariance=field(SIDE, SIDE).float())
    return PaddedPrior(outer, (1, *SIZE), (1, SIDE, SIDE))


def test_the_picture_is_the_middle(prior):
    x = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    assert prior.state_shape((1, *SIZE)) == (1, SIDE, SIDE)
    assert prior.encode(x).shape == (2, 1, SIDE, SIDE)
    assert torch.equal(prior.decode(prior.encode(x)), x)
    assert torch.equal(
        prior.encode(x)[..., 0, 5], x[..., 0, 4]
    )  # the nearest: one row is missing to the left


def test_a_sampler_draws_the_posterior_of_the_small_field(prior):
    """What surrounds the picture is hidden: mean and spread are those of the field of the picture's own size."""
    covariance = field(*SIZE)
    gain = torch.linalg.solve(covariance + SIGMA**2 * torch.eye(len(covariance)), covariance)
    root = torch.linalg.cholesky(covariance + 1e-9 * torch.eye(len(covariance)))
    generator = torch.Generator().manual_seed(1)
    y = root @ torch.randn(len(root), generator=generator, dtype=torch.float64)
    y = y + SIGMA * torch.randn(len(root), generator=generator, dtype=torch.float64)
    mean, left = (y @ gain).float(), (covariance - covariance @ gain).diagonal().sqrt().float()

    noise = {"use": "gaussian", "sigma": SIGMA}
    operator = build("operator", {"use": "identity", "noise": noise}, shape=(1, *SIZE))
    sampler = build("sampler", {"use": "daps", "final_denoise": False})
    count = 128
    ys = y.float().reshape(1, 1, *SIZE).expand(count, -1, -1, -1)
    *_, last = sampler.sample(prior, operator, ys, RandomStreams(range(count)))
    drawn = prior.decode(last.x0y).flatten(1)
    z = (drawn.mean(0) - mean) / (left / count**0.5)
    assert float(z.square().mean()) == pytest.approx(1, abs=0.5)
    assert float((drawn.std(0) / left).mean()) == pytest.approx(1, abs=0.04)
