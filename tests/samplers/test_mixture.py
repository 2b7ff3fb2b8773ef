"""Draws of the scale of noise with heavy tails, against its posterior by quadrature."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from daps_kit.api import build
from daps_kit.contracts import RandomStreams
from daps_kit.covariance import CosineCovariance
from daps_kit.runs.draw import draw
from daps_samplers import evidence as module
from daps_samplers.exact import Exact
from daps_samplers.mixture import MixtureInference, mixed
from daps_samplers.target import GaussianTarget

SHAPE = (1, 8, 8)
SCALE = {"unknown": {"use": "log_uniform", "low": 0.02, "high": 1.0}}
GRID = 0.02 * 50 ** ((torch.arange(120, dtype=torch.float64) + 0.5) / 120)
LAPLACE = {"use": "laplace", "scale": SCALE}
STUDENT = {"use": "student_t", "scale": SCALE}


def moments(noise: dict[str, object], y: torch.Tensor, spread: float) -> tuple[float, float]:
    """Return mean and standard deviation of log scale given y = x + noise of one, x of independent N(0, spread^2)."""
    x = spread * torch.linspace(-6, 6, 4001, dtype=torch.float64)
    prior = torch.from_numpy(scipy.stats.norm(0, spread).pdf(x.numpy()))
    logs = []
    for scale in GRID.tolist():
        one = build("operator", {"use": "identity", "noise": noise | {"scale": scale}}, shape=SHAPE).noise
        density = one.log_density(x[None], y.double().reshape(-1, 1)).exp()
        logs.append((density * prior).sum(1).log().sum())
    weights = torch.stack(logs).softmax(0)
    mean = (weights * GRID.log()).sum()
    return float(mean), float((weights * (GRID.log() - mean).square()).sum().sqrt())


@pytest.mark.parametrize(
    ("noise", "dense", "spread", "truth"),
    [(LAPLACE, 400, 0.3, 0.1), (STUDENT, 400, 0.3, 0.1), (LAPLACE, 10, 0.1, 0.2), (STUDENT, 10, 0.1, 0.2)],
)
def test_scales_are_drawn_from_their_posterior(
    noise: dict[str, object], dense: int, spread: float, truth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DENSE", dense)
    count, kernel = 60, Exact()
    operator = build("operator", {"use": "identity", "noise": noise}, shape=SHAPE)
    assert mixed(operator)
    assert operator.parameters is not None
    x = spread * RandomStreams([1]).normal(SHAPE)
    y = operator.parameters.at(torch.tensor([[truth]])).noise.sample(x, RandomStreams([2]))
    mean, std = moments(noise, y, spread)
    y = y.expand(count, *SHAPE)
    covariance = CosineCovariance(torch.full(SHAPE, spread**2), torch.eye(1))
    target = GaussianTarget(torch.zeros_like(y), covariance, operator, y, sigma=10.0, likelihood_variance=1.0)
    inference, streams = MixtureInference(operator, y), RandomStreams(range(count))
    for _ in range(2):
        level, x0 = inference.before(target, streams), torch.zeros_like(y)
        for _ in range(inference.rounds):
            x0, _ = kernel.run(level, x0, streams)
            level, x0 = inference.after(level, x0, streams)
    found = inference.values[:, 0].log()
    assert abs(float(found.mean()) - mean) < 4 * std / count**0.5
    assert float(found.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5)


def test_what_else_is_unknown_is_left_to_others() -> None:
    for section in (
        {"use": "identity", "noise": {"use": "gaussian", "sigma": SCALE}},
        {"use": "gaussian_blur", "intensity": {"unknown": [0.3, 1.5]}, "noise": LAPLACE},
        {"use": "high_dynamic_range", "noise": LAPLACE},
        {"use": "identity", "noise": {"use": "laplace", "scale": 0.1}},
    ):
        assert not mixed(build("operator", section, shape=SHAPE))


def test_where_a_network_says_what_is_open_the_scale_is_drawn_at_the_first_level() -> None:
    shape = (3, 64, 64)
    prior = build("prior", {"use": "embedded"})
    operator = build("operator", {"use": "identity", "noise": LAPLACE}, shape=shape)
    assert operator.parameters is not None
    y = operator.parameters.at(torch.tensor([[0.1]])).measure(
        prior.sample(shape, RandomStreams([1]), steps=10), RandomStreams([2])
    )
    found = draw(build("sampler", {"use": "daps", "budget": 3}), prior, operator, y, [0])
    scales = found.parameters[0]["noise.scale"]
    assert scales[0] == scales[-1] == pytest.approx(0.1, rel=0.05)


def test_an_interval_counts_how_far_squares_of_heavy_tails_scatter() -> None:
    """Of noise alone, a Gaussian density has log s known to 1 / (2 n)^{1/2}, and the variance of noise is (2 + k) / n."""
    count, size = 200, 24
    shape = (1, size, size)
    operator = build("operator", {"use": "identity", "noise": LAPLACE}, shape=shape)
    assert operator.parameters is not None
    y = operator.parameters.at(torch.tensor([[0.1]])).noise.sample(torch.zeros(1, *shape), RandomStreams([3]))
    y = y.expand(count, *shape)
    tiny = CosineCovariance(torch.full(shape, 1e-8), torch.eye(1), average=True)
    target = GaussianTarget(torch.zeros_like(y), tiny, operator, y, sigma=10.0, likelihood_variance=1.0)
    inference = MixtureInference(operator, y)
    level = inference.before(target, RandomStreams(range(count)))
    assert level.operator.noise.mixed
    found = inference.values[:, 0].log()
    std = (5 / (4 * size**2)) ** 0.5
    assert float(found.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5)
    seen = float((y[0].double().square().mean() / 2).sqrt().log())
    assert abs(float(found.mean()) - seen) < 4 * std / count**0.5
    again = inference.before(target, RandomStreams(range(count)))
    assert torch.equal(inference.values[:, 0].log(), found)
    assert inference.after(again, y, RandomStreams(range(count)))[1] is y
