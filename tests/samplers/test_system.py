"""An image and the noise that it is measured with, against dense solutions."""

from __future__ import annotations

from math import prod

import pytest
import torch

import daps_operators
from daps_kit.contracts import RandomStreams
from daps_kit.covariance import CosineCovariance, LocalCovariance
from daps_kit.settings import GaussianNoiseSettings
from daps_samplers.system import System

SHAPE, REST, LEVEL = (2, 12, 10), 0.02, 0.09
NOISE = GaussianNoiseSettings(sigma=0.2)
OPERATORS = {
    "gaussian": daps_operators.GaussianBlur(noise=NOISE, kernel_size=5, intensity=1.0),
    "down-sampling": daps_operators.DownSampling(noise=NOISE, scale_factor=2),
} | {
    f"motion {boundary}": daps_operators.LinearMotionBlur(
        noise=NOISE, length=4.0, angle=30.0, kernel_size=5, boundary=boundary
    )
    for boundary in ("reflect", "periodic", "zero", "valid")
}


def cosine():
    waves = (torch.arange(12)[:, None] ** 2 + torch.arange(10) ** 2).double()
    power = 1 / (1 + waves) * torch.tensor([1.0, 0.3], dtype=torch.float64).reshape(2, 1, 1)
    return CosineCovariance(power, torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64))


def local():
    scale = RandomStreams([3]).normal(SHAPE, torch.float64).mul(0.4).exp()
    return LocalCovariance(cosine(), scale)


@pytest.mark.parametrize("covariance", [cosine(), local()], ids=["cosine", "local"])
@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_the_dense_solution(name, covariance):
    operator = OPERATORS[name].build(shape=SHAPE, seed=0, device=torch.device("cpu"))
    modes = operator.modes(torch.zeros(1, *SHAPE, dtype=torch.float64))
    v = 0.5 * 0.04 / modes.gain.abs().square()
    share = torch.where(v < 100, (v / LEVEL).clamp_max(1), 0)
    spare = torch.where((v >= LEVEL) & (v < 100), 0, v * (1 - share))
    system = System(operator, modes, covariance, share, spare, REST)

    eye = torch.eye(240, dtype=torch.float64).reshape(-1, *SHAPE)
    size = prod(modes.shape)
    noise = torch.eye(size, dtype=torch.float64).reshape(-1, *modes.shape)
    a = modes.measured(modes.gain * modes.seen(eye, share)).flatten(1).T
    b = modes.measured(modes.gain * spare.sqrt() * modes.coordinates(noise)).flatten(1).T
    c = covariance.multiply(eye).flatten(1).T
    misfit = operator.forward(RandomStreams([1, 2]).normal(SHAPE, torch.float64))
    inverse = torch.linalg.inv(a @ c @ a.T + b @ b.T + REST * torch.eye(len(a), dtype=torch.float64))
    z = misfit.flatten(1) @ inverse
    x, w, error = system.solve(misfit, accuracy=1e-6, max_steps=300)
    torch.testing.assert_close(x.flatten(1), z @ (c @ a.T).T, rtol=0, atol=1e-5)
    told = modes.measured(modes.gain * w).flatten(1)
    torch.testing.assert_close(told, z @ (b @ b.T), rtol=0, atol=1e-5)
    assert float(error.max()) <= 1e-5
    # What is said of the error of a draw that stops early is about true.
    early, _, said = system.solve(misfit, accuracy=0.03, max_steps=300)
    precision = (
        torch.linalg.inv(c)
        + a.T @ torch.linalg.inv(b @ b.T + REST * torch.eye(len(a), dtype=torch.float64)) @ a
    )
    off = (early - x).flatten(1)
    true = ((off @ precision) * off).sum(1).div(240).sqrt()
    assert bool((true <= 2 * said + 1e-6).all())
