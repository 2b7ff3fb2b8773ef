"""Draws entry by entry against quadrature, from starts behind a clip and for a quantiser, which has no slope at all."""

from __future__ import annotations

import math

import pytest
import torch

from daps_kit.contracts import Operator, RandomStreams
from daps_kit.covariance import Isotropic, LowRank
from daps_kit.errors import ComponentError
from daps_kit.noise import GaussianNoise
from daps_operators.high_dynamic_range import HighDynamicRange
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import Daps
from daps_samplers.pixelwise import Pixelwise, applies
from daps_samplers.target import GaussianTarget
from tests.samplers.closed_form import CENTRE, SPREAD, quadrature

SIGMA = 0.1
NOISE = GaussianNoise(SIGMA)
Z = 4.5


class Quantised(Operator):
    """Rounds to quarters, as a stranger may who says of it only that it acts on each entry by itself."""

    elementwise = True

    def forward(self, x):
        return x + ((4 * x).round() / 4 - x).detach()


MAKE = {
    "clip": lambda shape: HighDynamicRange(shape, NOISE, 2.0),
    "quantiser": lambda shape: Quantised(shape, NOISE),
}


def make_target(operator, y, centre, covariance):
    return GaussianTarget(
        centre, covariance, operator, y, sigma=1.0, likelihood_variance=operator.noise.dispersion
    )


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("y", [0.3, 0.75, 1.1])
def test_independent_entries(name, y):
    shape, count = (1, 10, 10), 100
    centre = torch.full((count, *shape), CENTRE)
    operator, covariance = MAKE[name](shape), Isotropic(torch.tensor(SPREAD**2))
    target = make_target(operator, torch.full_like(centre, y), centre, covariance)
    start = torch.full_like(centre, 1.4)  # behind the clip, and far from what a quantiser allows
    x, info = Pixelwise(steps=12).run(target, start, RandomStreams(range(count)))
    mean, variance = quadrature(MAKE[name]((1, 1, 1)), y)
    x = x.double()
    assert not info.failures
    assert info.acceptance is None if operator.kinks else float(info.acceptance.min()) > 0.2
    assert abs(float(x.mean()) - mean) < Z * math.sqrt(variance / x.numel())
    kurtosis = float(((x - x.mean()) ** 4).mean() / x.var() ** 2)
    assert float(x.var()) == pytest.approx(variance, rel=Z * math.sqrt((kurtosis - 1) / x.numel()))


def test_entries_that_depend_on_each_other():
    """Two entries of correlation 0.9, one behind the clip, against quadrature in two dimensions."""
    count, root = 150, math.sqrt(0.5)
    covariance = LowRank(
        torch.full((count,), 0.01), torch.tensor([[root, root]]), torch.full((count, 1, 1), 0.19)
    )
    shape = (1, 1, 2)
    centre, y = torch.full((count, *shape), 0.3), torch.tensor([0.9, 0.97]).expand(count, *shape)
    target = make_target(MAKE["clip"](shape), y, centre, covariance)
    streams, kernel, draws = RandomStreams(range(count)), Pixelwise(), []
    state = kernel.init(target, centre, streams)
    for step in range(130):
        state, _ = kernel.step(target, state, streams)
        if step >= 30 and step % 5 == 4:
            draws.append(state.x.flatten(1).double())
    found = torch.cat(draws)
    line = torch.linspace(-1.5, 2.5, 801, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    precision = torch.linalg.inv(torch.tensor([[0.105, 0.095], [0.095, 0.105]], dtype=torch.float64))
    off = grid - 0.3
    log = -((off @ precision) * off).sum(1) / 2
    log -= ((2 * grid).clamp(-1, 1) - torch.tensor([0.9, 0.97])).square().sum(1) / (2 * SIGMA**2)
    weight = log.softmax(0)
    mean = weight @ grid
    wanted = (weight[:, None] * (grid - mean)).T @ (grid - mean)
    scale = wanted.diagonal().sqrt()
    assert float(((found.mean(0) - mean) / scale).abs().max()) < 0.1
    torch.testing.assert_close(torch.cov(found.T), wanted, rtol=0.15, atol=0)


def test_what_it_does_not_apply_to(scaled_operator):
    centre = torch.zeros(2, 1, 4, 4)
    target = make_target(scaled_operator(1.0, 0.1, (1, 4, 4)), centre, centre, Isotropic(0.1))
    assert not applies(target)
    with pytest.raises(ComponentError, match="'pixelwise' needs an operator that acts on each entry"):
        Pixelwise().run(target, centre, RandomStreams([0, 1]))


def test_a_run_leaves_no_pixel_behind_the_clip():
    """A white prior against quadrature: before, one pixel in twenty was more than 5 standard deviations off."""
    shape, runs, noise = (1, 16, 16), 48, 0.05
    prior, operator = GaussianPrior(0.0, 0.5), HighDynamicRange(shape, GaussianNoise(noise), 2.0)
    y = operator.measure(prior.sample(shape, RandomStreams([3])), RandomStreams([1]))
    (*_, last) = (
        Daps(budget="fast")
        .build()
        .sample(prior, operator, y.expand(runs, *shape), RandomStreams(range(runs)))
    )
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    log = -2 * grid**2 - ((2 * grid).clamp(-1, 1) - y.double().reshape(-1, 1)).square() / (2 * noise**2)
    weight = log.softmax(1)
    mean = weight @ grid
    std = (weight @ grid**2 - mean**2).sqrt()
    z = (last.x0y.flatten(1).double() - mean) / std
    beyond = float((weight * (((grid - mean[:, None]) / std[:, None]).abs() > 5)).sum(1).mean())
    assert float((z.abs() > 5).double().mean()) == pytest.approx(
        beyond, abs=1e-3
    )  # a few posteriors have two modes
    assert float(z.var(0).mean()) == pytest.approx(1, abs=0.06)
    alone = (y.flatten().abs() < 0.7)[None] & torch.ones_like(
        z, dtype=torch.bool
    )  # one mode: nothing may be stuck
    assert float(z[alone].abs().max()) < 5
