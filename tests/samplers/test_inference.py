"""Draws of unknown parameters: slices against known laws, posteriors of a sampler against quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from daps_kit.api import build
from daps_kit.contracts import RandomStreams, Step
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import RefusalError
from daps_kit.runs.draw import draw
from daps_samplers.evidence import Evidence
from daps_samplers.inference import Inference, grid_draw, slice_step
from daps_samplers.target import GaussianTarget
from tests.samplers.closed_form import (
    SHAPE,
    SIZE,
    check_standard_normal,
    make,
    smooth_prior,
    whitened_draws,
)

FACE = (3, 64, 64)
SCALE = {"unknown": {"use": "log_uniform", "low": 0.05, "high": 1.0}}
WIDTH = {"use": "gaussian_blur", "kernel_size": 9, "intensity": {"unknown": [0.3, 1.5], "truth": 0.8}}


def test_slices_leave_a_density_as_it_is() -> None:
    count, law = 3000, scipy.stats.beta(6.0, 2.5)
    streams = RandomStreams(range(count))
    u = torch.full((count, 2), 0.5, dtype=torch.float64)
    for _ in range(8):
        u = slice_step(lambda u: 5 * u[:, 1].log() + 1.5 * (1 - u[:, 1]).log(), u, 1, streams)
    assert bool((u[:, 0] == 0.5).all())
    assert scipy.stats.kstest(u[:, 1].numpy(), law.cdf).pvalue > 0.001


def test_a_sample_depends_on_its_own_stream_alone() -> None:
    def log(u: torch.Tensor) -> torch.Tensor:
        return -((u[:, 0] - 0.3) ** 2) / 2e-4

    u = torch.full((5, 1), 0.5, dtype=torch.float64)
    streams, one = RandomStreams(range(5)), RandomStreams([3])
    together = slice_step(log, slice_step(log, u, 0, streams), 0, streams)
    alone = slice_step(log, slice_step(log, u[:1], 0, one), 0, one)
    assert torch.equal(together[3], alone[0])


@pytest.mark.parametrize(
    "law", [scipy.stats.beta(6.0, 2.5), scipy.stats.norm(0.7312, 1e-4), scipy.stats.uniform()]
)
def test_a_draw_on_a_grid_inverts_the_distribution_function(law: scipy.stats.rv_continuous) -> None:
    def log(u: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(law.logpdf(u.numpy()))

    for share in (0.02, 0.3, 0.5, 0.9, 0.999):
        assert law.cdf(grid_draw(log, share)) == pytest.approx(share, abs=0.01)


def posterior(operator, y):
    """Return mean and standard deviation of one parameter given y, with the closed-form prior, by quadrature."""
    prior, parameters = smooth_prior(), operator.parameters
    eye = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)
    vectors, variances = prior.covariance.vectors, prior.covariance.variances
    u = (torch.arange(150, dtype=torch.float64)[:, None] + 0.5) / 150
    logs = []
    for each in parameters.operators(parameters.values(u[:, :1])):
        root = each.forward((vectors * variances.sqrt()).T.reshape(eye.shape)).flatten(1)
        s = root.T @ root + each.noise.dispersion * torch.eye(SIZE, dtype=torch.float64)
        r = (y.double() - each.forward(prior.mean[None])).flatten()
        logs.append(-0.5 * (r @ torch.linalg.solve(s, r) + torch.linalg.slogdet(s)[1]))
    weights, values = torch.stack(logs).softmax(0), parameters.values(u)[:, 0]
    mean = (weights * values).sum()
    return float(mean), float((weights * (values - mean).square()).sum().sqrt())


def drawn(operator, y, count):
    seen = []
    draw(
        build("sampler", {"use": "daps", "budget": 9}), smooth_prior(), operator,
        y.expand(count, *y.shape[1:]), range(count), lambda step: seen.append(step.parameters),
    )  # fmt: skip
    return seen[-1][:, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "count"),
    [({"use": "identity", "noise": {"use": "gaussian", "sigma": SCALE}}, 150),
     (WIDTH | {"noise": {"use": "gaussian", "sigma": 0.05}}, 60)],
)  # fmt: skip
def test_posteriors_are_those_of_quadrature(section: dict[str, object], count: int) -> None:
    operator = build("operator", section, shape=SHAPE)
    assert operator.parameters is not None
    x = smooth_prior().sample(SHAPE, RandomStreams([5]))
    y = operator.parameters.at(operator.parameters.truths(RandomStreams([3]))).measure(x, RandomStreams([7]))
    mean, std = posterior(operator, y)
    values = drawn(operator, y, count)
    assert abs(float(values.mean()) - mean) < 4 * std / count**0.5
    assert float(values.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5)


def test_images_of_a_noise_that_is_unknown_are_those_of_the_posterior() -> None:
    """Given its own sigma, each sample is a draw of N(E[x0 | y, sigma], Cov[x0 | y, sigma])."""
    operator = build(
        "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": SCALE}}, shape=SHAPE
    )
    prior, count = smooth_prior(), 100
    y = prior.sample(SHAPE, RandomStreams([5])) + 0.3 * RandomStreams([7]).normal(SHAPE, torch.float64)
    steps: list[Step] = []
    found = draw(
        build("sampler", {"use": "daps", "budget": 6}), prior, operator,
        y.expand(count, *SHAPE), range(count), steps.append,
    )  # fmt: skip
    assert [step.level for step in steps] == list(range(6)) == list(range(steps[0].levels))
    assert found.cost.calls == 6
    sigmas = torch.tensor([trace["noise.sigma"][-1] for trace in found.parameters])
    assert float(sigmas.std()) > 0.01
    torch.testing.assert_close(steps[1].x_t, y.expand(count, *SHAPE).to(steps[1].x_t))
    parts = [
        whitened_draws(x[None], prior, make("identity"), y, noise=float(sigma))
        for x, sigma in zip(found.x0, sigmas, strict=True)
    ]
    check_standard_normal(torch.cat(parts))
    alone = draw(build("sampler", {"use": "daps", "budget": 6}), prior, operator, y, [3])
    assert alone.parameters[0] == found.parameters[3]
    torch.testing.assert_close(alone.x0[0], found.x0[3])


def test_the_noise_of_a_clipped_image_is_that_of_its_prior_on_average() -> None:
    count, prior = 60, smooth_prior()
    scale = {"unknown": {"use": "log_uniform", "low": 0.02, "high": 1.0}}
    section = {"use": "high_dynamic_range", "noise": {"use": "gaussian", "sigma": scale}}
    operator = build("operator", section, shape=SHAPE)
    streams = [RandomStreams(range(k * count, (k + 1) * count)) for k in range(3)]
    truth = operator.parameters.truths(streams[0])
    y = operator.parameters.at(truth).measure(prior.sample(SHAPE, streams[1]), streams[2])
    seen = []
    draw(
        build("sampler", {"use": "daps", "budget": 9}), prior, operator, y, range(count),
        lambda step: seen.append(step.parameters),
    )  # fmt: skip
    assert abs(float((seen[-1] / truth).log().mean())) < 0.12


def level(operator, count: int, noise: float, truth: list[float], size: int) -> GaussianTarget:
    """Return the first level of `count` samples of one simulated measurement, of which a power law is the prior."""
    square = torch.arange(float(size))[:, None] ** 2 + torch.arange(float(size)) ** 2
    covariance = CosineCovariance(2 / (0.5 + square)[None], torch.eye(1))
    generator = torch.Generator().manual_seed(2)
    x = covariance.sqrt(torch.randn(1, 1, size, size, generator=generator))
    at = operator.parameters.at(torch.tensor([truth], dtype=torch.float64))
    y = at.forward(x) + noise * torch.randn(1, 1, size, size, generator=generator)
    y = y.expand(count, *y.shape[1:])
    return GaussianTarget(torch.zeros_like(y), covariance, operator, y, sigma=10.0, likelihood_variance=1.0)


@pytest.mark.parametrize("angle", [25.0, 155.0])
def test_a_motion_is_told_from_its_mirror_image(angle: float) -> None:
    section = {
        "use": "linear_motion_blur", "length": {"unknown": {"use": "log_uniform", "low": 1.0, "high": 20.0}},
        "angle": "unknown", "noise": {"use": "gaussian", "sigma": 0.02},
    }  # fmt: skip
    operator = build("operator", section, shape=(1, 24, 24))
    target = level(operator, 1, 0.02, [6.0, angle], 24)
    inference = Inference(operator, target.y)
    inference.before(target, RandomStreams([0]))
    assert torch.allclose(inference.values[:, 1], torch.tensor(angle).double(), atol=6.0)
    assert torch.allclose(inference.values[:, 0], torch.tensor(6.0).double(), atol=1.0)


def test_far_modes_of_an_angle_are_drawn_alike() -> None:
    generator = torch.Generator().manual_seed(4)
    half = torch.randn(1, 1, 8, 8, generator=generator)
    centre = 0.2 * (half + half.flip(2, 3))  # a turn by 180 degrees leaves it as it is
    covariance = CosineCovariance(torch.full((1, 8, 8), 0.03), torch.eye(1))
    section = {"use": "rotation", "angle": {"unknown": [0, 360]}, "noise": {"use": "gaussian", "sigma": 0.05}}
    operator = build("operator", section, shape=(1, 8, 8))
    at = operator.parameters.at(torch.tensor([[70.0]], dtype=torch.float64))
    y = at.forward(centre + covariance.sqrt(torch.randn(1, 1, 8, 8, generator=generator)))
    y = (y + 0.05 * torch.randn(1, 1, 8, 8, generator=generator)).expand(8, -1, -1, -1)
    target = GaussianTarget(centre.expand_as(y), covariance, operator, y, sigma=10.0, likelihood_variance=1.0)
    inference = Inference(operator, y)
    inference.before(target, RandomStreams(range(8)))
    angles = inference.values[:, 0]
    assert torch.allclose(angles % 180, torch.tensor(70.0).double(), atol=6.0)
    assert 0.2 < float((angles < 180).double().mean()) < 0.8


def test_the_sigma_of_channels_are_drawn_from_their_joint_posterior() -> None:
    count, shape = 60, (2, 4, 4)
    section = {"use": "identity", "noise": {"use": "gaussian", "sigma": [SCALE, SCALE]}}
    operator = build("operator", section, shape=shape)
    colours, _ = torch.linalg.qr(torch.tensor([[1.0, 1.0], [1.0, -0.6]]))
    covariance = CosineCovariance(torch.tensor([0.5, 0.02])[:, None, None] / (1 + torch.arange(4.0)), colours)
    generator = torch.Generator().manual_seed(3)
    y = covariance.sqrt(torch.randn(1, *shape, generator=generator)).double()
    y = y + torch.tensor([0.1, 0.5])[:, None, None] * torch.randn(1, *shape, generator=generator)
    y = y.expand(count, *shape)
    target = GaussianTarget(torch.zeros_like(y), covariance, operator, y, sigma=10.0, likelihood_variance=1.0)
    inference, streams = Inference(operator, y), RandomStreams(range(count))
    for _ in range(3):
        target.sigma /= 2
        inference.before(target, streams)
    assert inference.collapsed
    grid = 0.05 * 20 ** ((torch.arange(50, dtype=torch.float64) + 0.5) / 50)
    c = covariance.multiply(torch.eye(32, dtype=torch.float64).reshape(32, *shape)).flatten(1)
    pairs = torch.cartesian_prod(grid, grid)
    s = c + torch.diag_embed(pairs.square().repeat_interleave(16, 1))
    r = y[0].flatten()
    logs = -0.5 * (torch.linalg.solve(s, r.expand(len(s), -1)) @ r + torch.logdet(s))
    weights = logs.softmax(0)
    for place in range(2):
        values, found = pairs[:, place].log(), inference.values[:, place].log()
        mean = float((weights * values).sum())
        std = float((weights * (values - mean).square()).sum().sqrt())
        assert abs(float(found.mean()) - mean) < 4 * std / count**0.5
        assert float(found.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5)


@pytest.mark.slow
def test_levels_leave_the_posterior_of_a_width_as_it_is() -> None:
    section = {"use": "gaussian_blur", "kernel_size": 9, "intensity": {"unknown": [0.3, 1.5]}}
    operator = build("operator", section | {"noise": {"use": "gaussian", "sigma": 0.1}}, shape=(1, 21, 21))
    target = level(operator, 40, 0.1, [0.8], 21)
    assert Evidence(operator.parameters, target).rough
    inference, streams = Inference(operator, target.y), RandomStreams(range(40))
    for _ in range(3):
        inference.before(target, streams)
    u = (torch.arange(60, dtype=torch.float64)[:, None] + 0.5) / 60
    root = target.covariance.sqrt(torch.eye(441, dtype=torch.float64).reshape(441, 1, 21, 21))
    logs = []
    for each in operator.parameters.operators(operator.parameters.values(u)):
        factor = each.forward(root).flatten(1).numpy()
        law = scipy.stats.multivariate_normal(cov=factor.T @ factor + 0.01 * np.eye(441))
        logs.append(law.logpdf(target.y[0].flatten().numpy()))
    weights, values = torch.tensor(np.array(logs)).softmax(0), operator.parameters.values(u)[:, 0]
    mean = float((weights * values).sum())
    std = float((weights * (values - mean).square()).sum().sqrt())
    found = inference.values[:, 0]
    assert abs(float(found.mean()) - mean) < 4 * std / 40**0.5
    assert float(found.std()) == pytest.approx(std, rel=4 / 80**0.5)


def test_what_cannot_be_inferred_is_refused() -> None:
    operator = build(
        "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": SCALE}}, shape=SHAPE
    )
    y = torch.zeros(1, *SHAPE)
    with pytest.raises(RefusalError, match="leave sampler.tau out"):
        draw(build("sampler", {"use": "daps", "tau": 0.1}), smooth_prior(), operator, y, [0])
    with pytest.raises(
        RefusalError, match="does not draw what is unknown of the operator .noise.sigma.; daps"
    ):
        draw(build("sampler", {"use": "smc"}), smooth_prior(), operator, y, [0])


def test_noise_is_judged_by_the_mean_covariance_where_that_of_each_place_is_a_guess() -> None:
    """By what the head of the embedded prior guesses, a sigma of 0.03 was taken for 0.053."""
    prior = build("prior", {"use": "embedded"})
    assert prior.local_errors is not None
    operator = build(
        "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": "unknown"}}, shape=FACE
    )
    y = prior.sample(FACE, RandomStreams([1])) + 0.03 * RandomStreams([2]).normal(FACE)
    found = draw(build("sampler", {"use": "daps", "budget": 2}), prior, operator, y, [0])
    assert found.parameters[0]["noise.sigma"][-1] == pytest.approx(0.03, rel=0.1)
