"""Draws of sigma behind a mask, against its posterior by matrices."""

from __future__ import annotations

import pytest
import torch

from daps_kit.api import build
from daps_kit.contracts import Operator, RandomStreams
from daps_kit.covariance import CosineCovariance
from daps_samplers import evidence as module
from daps_samplers.imputed import Imputed, masks
from daps_samplers.inference import Inference
from daps_samplers.target import GaussianTarget

SHAPE = (2, 8, 8)
SIZE = 128
SCALE = {"unknown": {"use": "log_uniform", "low": 0.03, "high": 1.0}}
NOISE = {"noise": {"use": "gaussian", "sigma": SCALE}}
BOX = {"use": "inpainting"}
RANDOM = {"use": "inpainting", "mask": "random"}
GRID = 0.03 * (1 / 0.03) ** ((torch.arange(300, dtype=torch.float64) + 0.5) / 300)


def covariance(*, average: bool = False) -> CosineCovariance:
    square = torch.arange(8.0)[:, None] ** 2 + torch.arange(8.0) ** 2
    power = torch.tensor([2.0, 0.3])[:, None, None] / (1 + square) ** 1.5
    colours, _ = torch.linalg.qr(torch.tensor([[1.0, 1.0], [1.0, -0.6]]))
    return CosineCovariance(power, colours, average=average)


def problem(section: dict[str, object], count: int, sigma: float = 0.15) -> tuple[GaussianTarget, Operator]:
    """Return `count` samples of one measurement."""
    operator = build("operator", section | NOISE, shape=SHAPE)
    draw = torch.Generator().manual_seed(4)
    x, n = torch.randn(2, 1, *SHAPE, generator=draw)
    y = operator.project(covariance().sqrt(x) + sigma * n).expand(count, *SHAPE)
    return GaussianTarget(torch.zeros_like(y), covariance(), operator, y, sigma=10.0, likelihood_variance=1.0), operator


def posterior(target: GaussianTarget) -> tuple[float, float]:
    """Return mean and standard deviation of log sigma by matrices."""
    seen = target.operator.project(torch.ones(1, *SHAPE)).flatten() > 0
    c = covariance().multiply(torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)).flatten(1)
    c, r = c[seen][:, seen], target.y[0].double().flatten()[seen]
    s = c + GRID.square()[:, None, None] * torch.eye(len(c), dtype=torch.float64)
    weights = (-0.5 * (torch.linalg.solve(s, r.expand(len(s), -1)) @ r + torch.logdet(s))).softmax(0)
    mean = (weights * GRID.log()).sum()
    return float(mean), float((weights * (GRID.log() - mean).square()).sum().sqrt())


@pytest.mark.parametrize("section", [BOX, RANDOM])
def test_sigma_behind_a_mask_is_drawn_from_its_posterior(
    section: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    count = 150
    target, operator = problem(section, count)
    inference, streams = Inference(operator, target.y), RandomStreams(range(count))
    inference.before(target, streams)
    mean, std = posterior(target)
    found = inference.values[:, 0].log()
    assert abs(float(found.mean()) - mean) < 4 * std / count**0.5
    assert float(found.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5)
