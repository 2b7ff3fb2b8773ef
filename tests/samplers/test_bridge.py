"""States through a measurement whose noise differs from element to element: closed forms and quadrature."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
import torch

import daps_operators
from daps_kit.contracts import RandomStreams
from daps_kit.noise import GaussianNoise
from daps_kit.runs.cost import Cost, Meter
from daps_kit.settings import GaussianNoiseSettings
from daps_operators.noises import Laplace, Poisson, PoissonGaussian
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.exact.mixture import MixturePrior
from daps_samplers import Auto, Daps, Langevin
from daps_samplers.bridge import NOTE, Bridge, begins
from tests.samplers.closed_form import SHAPE, Z, check_standard_normal, smooth_prior
from tests.samplers.test_noises import MAP, weighted_draws

CPU = torch.device("cpu")
GRID = torch.linspace(-4, 4, 16001, dtype=torch.float64)


def identity(noise, shape=SHAPE):
    return daps_operators.Identity(noise=noise).build(shape=shape, seed=0, device=CPU)


@pytest.fixture
def map_file(tmp_path):
    np.save(tmp_path / "sigma.npy", MAP)
    return tmp_path / "sigma.npy"


def test_draws_are_exact_where_the_prior_is_gaussian(map_file):
    """Standard deviations from 0.02 to 0.5, and a prior whose elements depend on each other."""
    prior, operator = smooth_prior(), identity(GaussianNoiseSettings(sigma=map_file))
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7])).expand(2000, *SHAPE)
    calls, denoise = [], prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    steps = list(Daps().build().sample(prior, operator, y, RandomStreams(range(2000))))
    assert len(calls) == 21
    assert NOTE in steps[0].notes
    # Of so many samples one may be beyond what the test of the residual lets pass.
    assert sum(len(step.failures) for step in steps) <= 2
    check_standard_normal(weighted_draws(steps[-1].x0y, prior, operator, y[:1]), allowance=0.02)
    # Given x_t and y of three levels, the mean scatters less than draws do.
    off = weighted_draws(steps[-1].average, prior, operator, y[:1])
    assert float(off.mean(0).abs().max()) < Z / sqrt(2000)
    assert float(off.square().mean()) < 0.5


def test_draws_are_exact_in_another_basis():
    """What a JPEG file keeps, one number of which is not observed."""
    settings = daps_operators.Jpeg(quality=40, noise=GaussianNoiseSettings(sigma=0.1))
    prior, operator = smooth_prior(), settings.build(shape=SHAPE, seed=0, device=CPU)
    deviations = operator.noise.std(torch.zeros(1, *SHAPE))[0].clone()
    assert float(deviations.max() / deviations.min()) > 1.5
    deviations[0, 3, 3] = 100.0
    operator.noise, operator.observed = GaussianNoise(deviations), (deviations < 1).float()[None]
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7])).expand(2000, *SHAPE)
    steps = list(Daps().build().sample(prior, operator, y, RandomStreams(range(2000))))
    assert NOTE in steps[0].notes
    check_standard_normal(weighted_draws(steps[-1].x0y, prior, operator, y[:1], deviations), allowance=0.02)
    assert steps[0].sigma == pytest.approx(
        1.3 * float(deviations[deviations < 1].square().mean().sqrt()), rel=1e-4
    )


@pytest.mark.parametrize("noise", [Poisson(peak=20.0), Laplace(scale=0.2)], ids=["poisson", "laplace"])
def test_a_measurement_does_not_depend_on_others(noise):
    """Each of different ones has noise levels of its own; those that are the same are drawn as one batch."""
    prior, operator = smooth_prior(), identity(noise)
    y = torch.cat(
        [
            operator.measure(scale * prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7]))
            for scale in (0.3, 1.0)
        ]
    )

    def last(measured, seeds):
        return [*Daps(budget=7).build().sample(prior, operator, measured, RandomStreams(seeds))]

    both = last(y[[0, 1, 1]], [1, 2, 3])
    for sample, place in enumerate([0, 1, 1]):
        alone = last(y[place : place + 1], [sample + 1])
        assert len(alone) == len(both)
        assert [(step.level, step.levels) for step in both] == [(step.level, step.levels) for step in alone]
        for name in ("x0y", "average"):
            torch.testing.assert_close(
                getattr(both[-1], name)[sample : sample + 1], getattr(alone[-1], name), rtol=0, atol=1e-4
            )
    assert NOTE in both[0].notes
    same = last(y[[1, 1]], [2, 3])
    torch.testing.assert_close(same[-1].x0y, both[-1].x0y[1:], rtol=0, atol=1e-3)
    differ = begins(operator, y[:1], (0, inf)) != begins(operator, y[1:], (0, inf))
    assert differ == isinstance(noise, Poisson)


@pytest.mark.parametrize("kernel", [Langevin(steps=2), Auto()], ids=["langevin", "auto"])
def test_a_sample_costs_what_it_costs_alone(map_file, kernel):
    """Whether levels may lead through y is asked once a measurement, however many there are in a batch."""
    prior, operator = smooth_prior(), identity(GaussianNoiseSettings(sigma=map_file))
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    sampler = Daps(budget=3, kernel=kernel).build()

    def cost(measured, seeds):
        meter = Meter()
        list(sampler.sample(meter.prior(prior), meter.operator(operator), measured, RandomStreams(seeds)))
        return meter.cost(1)

    each = [cost(y[:1], [1]), cost(y[1:], [2])]
    assert cost(y, [1, 2]) == Cost(
        *(sum(getattr(part, name) for part in each) for name in ("calls", "jacobians", "products"))
    )


@pytest.mark.parametrize(("sigma", "following"), [(0.7, 0.5), (0.7, 0.3), (0.3, 0.15)])
def test_states_are_those_of_a_brownian_motion(sigma, following):
    """From x0 = 0 on: variances are times, covariances the earlier time, with y and with the state before."""
    count, v = 200_000, torch.tensor([0.2, 0.4, 0.9]) ** 2
    early, late = v.clamp_max(sigma**2), v.clamp_min(sigma**2)
    draw = torch.Generator().manual_seed(0)
    first = early.sqrt() * torch.randn(count, 1, 1, 3, generator=draw)
    second = first + (late - early).sqrt() * torch.randn(count, 1, 1, 3, generator=draw)
    y, x_t = torch.where(v < sigma**2, first, second), torch.where(v < sigma**2, second, first)
    bridge = Bridge(sigma, y, v.expand_as(y), torch.zeros_like(y))
    streams, bound = RandomStreams(range(count)), Z * sqrt(2 / count)
    state = bridge.following(x_t, bridge.x, sigma, following, streams)
    pairs = [(state, state, following**2), (state, y, v.clamp_max(following**2)), (state, x_t, following**2)]
    begun = bridge.first(RandomStreams(range(count, 2 * count)))
    pairs += [(begun, begun, sigma**2), (begun, y, v.clamp_max(sigma**2))]
    for one, other, due in pairs:
        scale = bound * (one.square().mean(0) * other.square().mean(0)).sqrt().flatten()
        assert bool((((one * other).mean(0).flatten() - due).abs() < scale).all())


def posterior(prior_log, operator, y):
    """Return weights on the grid of p(x | y) of a single number measured as y."""
    image = GRID.reshape(-1, 1, 1, 1)
    return (operator.log_likelihood(image, torch.full_like(image, y)) + prior_log(GRID)).softmax(0)


SINGLE, WIDE = (1, 1, 1), (1, 100, 100)


def cases(noise, folder):
    """Return an operator of images, y and, for each kind of element, where it is, y there and the operator of it."""
    if noise == "map":
        sigmas = torch.tensor([0.4, 0.6]).repeat(100, 50).reshape(WIDE)
        np.save(folder / "sigma.npy", sigmas.numpy())
        operator, y = (
            identity(GaussianNoiseSettings(sigma=folder / "sigma.npy"), WIDE),
            torch.full(WIDE, -0.3),
        )
        kinds = [
            (sigmas == s, -0.3, identity(GaussianNoiseSettings(sigma=s), SINGLE))
            for s in sigmas.unique().tolist()
        ]
        return operator, y, kinds
    counts = torch.arange(5.0).repeat(100, 20).reshape(WIDE)
    y = -1 + 2 * counts / noise.peak
    kinds = [(counts == n, -1 + 2 * n / noise.peak, identity(noise, SINGLE)) for n in range(5)]
    return identity(noise, WIDE), y, kinds


MODES, STD = (-0.8, 0.0), 0.1


def two_modes(x):
    return torch.stack([-((x - m) ** 2) / (2 * STD**2) for m in MODES]).logsumexp(0)


@pytest.mark.parametrize("noise", ["map", Poisson(peak=4.0)], ids=["map", "poisson"])
def test_the_modes_of_a_mixture_have_the_weights_of_the_posterior(noise, tmp_path):
    """As annealing from level 10 asks a Gaussian p(x0 | x_t, y), they have not."""
    prior = MixturePrior(torch.tensor(MODES), STD, torch.tensor([0.5, 0.5]), elementwise=True)
    operator, y, kinds = cases(noise, tmp_path)
    between = sum(MODES) / 2
    due = torch.tensor([float(posterior(two_modes, op, at)[between < GRID].sum()) for _, at, op in kinds])
    off = []
    for settings in ({}, {"forgetting": 2.0}):
        sampler = Daps(budget=41, **settings).build()
        (*_, last) = sampler.sample(prior, operator, y.expand(2, *WIDE), RandomStreams([0, 1]))
        found = torch.tensor([float((last.x0y[:, where] > between).double().mean()) for where, *_ in kinds])
        off.append(float((found - due).square().mean().sqrt()))
    assert off[0] < 0.04
    assert off[0] < 0.7 * off[1]


@pytest.mark.parametrize(
    "noise",
    [Poisson(peak=10.0), PoissonGaussian(peak=10.0, read=1.0), Laplace(scale=0.3)],
    ids=["poisson", "camera", "laplace"],
)
def test_single_numbers_are_those_of_quadrature(noise):
    """Counts from 0 to 4 of at most 10, with a Gaussian prior: mean and deviation."""
    m, s = -0.5, 0.4
    settings = noise if isinstance(noise, Poisson) else Poisson(peak=10.0)
    _, y, kinds = cases(settings, None)
    operator = identity(noise, WIDE)
    single = identity(noise, SINGLE)
    (*_, last) = (
        Daps().build().sample(GaussianPrior(m, s), operator, y.expand(2, *WIDE), RandomStreams([0, 1]))
    )
    assert NOTE in last.notes or last.level > 0
    for where, at, _ in kinds:
        weight = posterior(lambda x: -((x - m) ** 2) / (2 * s**2), single, at)
        mean = float(weight @ GRID)
        std = sqrt(float(weight @ GRID**2) - mean**2)
        x = last.x0y[:, where].double()
        assert abs(float(x.mean()) - mean) < (0.03 + Z / sqrt(x.numel())) * std
        assert float(x.std()) == pytest.approx(std, rel=0.05)


def test_it_is_no_first_state_where_it_is_no_noisy_image():
    """Of what is blurred, bent, saturated for the most part or noisier than the prior knows."""
    y, noise = torch.zeros(1, *SHAPE), Poisson(peak=10.0)
    everything = (0.0, inf)
    assert begins(identity(noise), y, everything) == pytest.approx(1.3 * sqrt(5) / 5)
    assert begins(identity(noise), y, (0.0, 0.5)) is None
    bent = daps_operators.HighDynamicRange(noise=noise).build(shape=SHAPE, seed=0, device=CPU)
    blurred = daps_operators.GaussianBlur(noise=noise, kernel_size=5, intensity=1.0)
    for other in (bent, blurred.build(shape=SHAPE, seed=0, device=CPU)):
        steps = list(Daps(budget=5).build().sample(GaussianPrior(0.5, 1.0), other, y, RandomStreams([0])))
        assert NOTE not in steps[0].notes
        assert steps[0].sigma == 10
    clipped = identity(GaussianNoiseSettings(sigma=0.1, clipped=(-1, 1)))
    for columns, first in ((1, 0.13), (4, 10.0)):
        y = torch.zeros(1, *SHAPE)
        y[..., :columns] = 1  # and who knows how much more
        steps = list(Daps(budget=5).build().sample(GaussianPrior(0.5, 1.0), clipped, y, RandomStreams([0])))
        assert (steps[0].sigma, len(steps)) == (pytest.approx(first), 4)
