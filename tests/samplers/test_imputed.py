"""Draws of sigma behind a mask, against its posterior by matrices."""

from __future__ import annotations

import pytest
import torch

from daps_kit.api import build
from daps_kit.contracts import Operator, RandomStreams
from daps_kit.covariance import CosineCovariance
from daps_samplers import evidence as module
from daps_samplers.imputed import masks
from daps_samplers.inference import Inference
from daps_samplers.target import GaussianTarget

SHAPE = (1, 24, 24)
SIZE = 576
NOISE = {
    "noise": {"use": "gaussian", "sigma": {"unknown": {"use": "log_uniform", "low": 0.005, "high": 0.5}}}
}
BOX = {"use": "inpainting"}
RANDOM = {"use": "inpainting", "mask": "random"}
GRID = 0.005 * 100 ** ((torch.arange(200, dtype=torch.float64) + 0.5) / 200)


def covariance() -> CosineCovariance:
    """Return one of variances from 100 to 0.0001."""
    square = torch.arange(24.0)[:, None] ** 2 + torch.arange(24.0) ** 2
    return CosineCovariance(100 / (1 + square[None]) ** 2, torch.eye(1))


def problem(section: dict[str, object], count: int, sigma: float) -> tuple[GaussianTarget, Operator]:
    """Return `count` samples of one measurement."""
    operator = build("operator", section | NOISE, shape=SHAPE)
    draw = torch.Generator().manual_seed(0)
    x, n = (torch.randn(1, *SHAPE, generator=draw) for _ in range(2))
    y = operator.project(covariance().sqrt(x) + sigma * n).expand(count, *SHAPE)
    target = GaussianTarget(
        torch.zeros_like(y), covariance(), operator, y, sigma=10.0, likelihood_variance=1.0
    )
    return target, operator


def posterior(target: GaussianTarget) -> tuple[float, float]:
    """Return mean and standard deviation of log sigma by matrices."""
    seen = target.operator.project(torch.ones(1, *SHAPE)).flatten() > 0
    c = covariance().multiply(torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)).flatten(1)
    values, vectors = torch.linalg.eigh(c[seen][:, seen])
    energy = (vectors.T @ target.y[0].double().flatten()[seen]).square()
    total = values + GRID.square()[:, None]
    weights = (-0.5 * (energy / total + total.log()).sum(1)).softmax(0)
    mean = (weights * GRID.log()).sum()
    return float(mean), float((weights * (GRID.log() - mean).square()).sum().sqrt())


@pytest.mark.parametrize(("section", "sigma"), [(BOX, 0.02), (RANDOM, 0.1)])
def test_sigma_behind_a_mask_is_drawn_from_its_posterior(
    section: dict[str, object], sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    count = 60
    target, operator = problem(section, count, sigma)
    assert masks(target)
    inference, streams = Inference(operator, target.y), RandomStreams(range(count))
    inference.before(target, streams)
    mean, std = posterior(target)
    found = inference.values[:, 0].log()
    assert abs(float(found.mean()) - mean) < 4 * std / count**0.5
    assert float(found.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5)
    alone = Inference(operator, target.y[3:4])
    one = GaussianTarget(
        target.centre[3:4], covariance(), operator, target.y[3:4], sigma=10.0, likelihood_variance=1.0
    )
    alone.before(one, RandomStreams([3]))
    assert float(alone.values[0, 0]) == pytest.approx(float(inference.values[3, 0]), rel=1e-3)


def test_a_factor_of_a_mean_covariance_is_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image that is three times as rough as the mean, the noise is not taken for more."""
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem(BOX, 20, 0.1)
    mean, _ = posterior(target)
    less = CosineCovariance(covariance().power / 9, covariance().colours, average=True)
    inference = Inference(operator, target.y)
    inference.before(target.with_covariance(less), RandomStreams(range(20)))
    assert float(inference.values[:, 0].log().mean()) == pytest.approx(mean, abs=0.1)


def test_only_what_hides_pixels_is_a_mask() -> None:
    for section, expected in (
        (BOX, True),
        ({"use": "identity"}, True),
        ({"use": "affine", "scale": 2.0}, False),
        ({"use": "affine", "offset": 0.5}, True),
        ({"use": "gaussian_blur"}, False),
        ({"use": "down_sampling", "scale_factor": 2}, False),
    ):
        operator = build("operator", section | NOISE, shape=SHAPE)
        y = operator.forward(torch.zeros(1, *SHAPE))
        target = GaussianTarget(
            torch.zeros(1, *SHAPE), covariance(), operator, y, sigma=1.0, likelihood_variance=1.0
        )
        assert masks(target) is expected, section
