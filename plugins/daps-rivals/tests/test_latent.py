"""The samplers that take latents, with latents that are images rotated: a second derivation with dense matrices."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from daps_rivals import vp
from problem import Gaussian, assert_close

from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_kit.testing.base import orthogonal
from daps_kit.testing.problems import SHAPE, DensePrior, matrix_times

LATENT = (2, 2, 4)
Q = orthogonal(45, 16) * torch.linspace(0.8, 1.2, 16, dtype=torch.float64)  # the decoder; no rotation alone
P = torch.linalg.inv(Q)


class Rotated(DensePrior):
    """The prior of a problem, on latents z with the image Q z."""

    def __init__(self, problem):
        super().__init__(P @ problem.mu, P @ problem.covariance @ P.T, SHAPE)

    def state_shape(self, image_shape):
        return LATENT

    def encode(self, x):
        return matrix_times(P, x).reshape(len(x), *LATENT)

    def decode(self, z):
        return matrix_times(Q, z).reshape(len(z), *SHAPE)


def sampled(problem, section, seed):
    prior, y = Rotated(problem), problem.y.reshape(1, 1, 1, -1)
    sampler = build("sampler", section)
    assert not sampler.refusal(prior, problem.operator)
    *_, last = sampler.sample(prior, problem.operator, y, RandomStreams([seed]))
    assert last.x0y.shape == (1, *LATENT)
    return last.x0y.flatten()


def denoised(problem, z, sigma):
    mean, covariance = P @ problem.mu, P @ problem.covariance @ P.T
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(16).double())
    return mean + gain @ (z - mean), gain


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_psld(eta):
    problem = Gaussian()
    got = sampled(problem, {"use": "psld", "steps": 20, "omega": 0.4, "gamma": 0.2, "eta": eta}, 5)
    draw, a, y = problem.numbers(5), problem.a, problem.y
    z = draw()
    for t, s in pairwise([*vp.times(20, (0.0, 1e9)), vp.CLEAN]):
        hat, gain = denoised(problem, z / t.a, t.sigma)
        residual = y - a @ Q @ hat
        back = P @ (Q @ hat + a.T @ residual)
        apart = hat - back
        inside = torch.eye(16).double() - P @ (Q - a.T @ a @ Q)  # the derivative of apart by hat
        pull = -0.4 * (a @ Q).T @ residual / residual.norm() + 0.2 * inside.T @ apart / apart.norm()
        c1 = eta * math.sqrt((1 - s.a**2) / (1 - t.a**2) * (1 - t.a**2 / s.a**2))
        step = s.a * hat + math.sqrt(max(0.0, 1 - s.a**2 - c1**2)) * (z - t.a * hat) / t.s + c1 * draw()
        z = step - gain.T @ pull / t.a
    assert_close(got, z)


def test_resample():
    """With the optimiser of torch on images, then on latents, one sample at a time."""
    problem = Gaussian()
    section = {
        "use": "resample", "steps": 12, "every": 2, "pixel_steps": 7, "latent_steps": 5, "pixel_lr": 0.03,
        "latent_lr": 0.02, "gamma": 3.0,
    }  # fmt: skip
    got = sampled(problem, section, 7)
    draw, a, y = problem.numbers(7), problem.a, problem.y
    enough = problem.sigma_y**2 * len(y)

    def explain(start, matrix, steps, lr):
        x = start.clone().requires_grad_()
        adam = torch.optim.Adam([x], lr=lr)
        for _ in range(steps):
            misfit = (y - matrix @ x).square().sum()
            if float(misfit.detach()) < enough:
                break
            adam.zero_grad()
            misfit.backward()
            adam.step()
        return x.detach()

    z = draw()
    pairs = list(pairwise([*vp.times(12, (0.0, 1e9)), vp.CLEAN]))
    for i, (t, s) in enumerate(pairs):
        hat, _ = denoised(problem, z / t.a, t.sigma)
        following = s.a * hat + s.s * (z - t.a * hat) / t.s
        if s == vp.CLEAN:
            assert_close(got, explain(hat, a @ Q, 5, 0.02))
            return
        if i in (5, 7):
            guess = P @ explain(Q @ hat, a, 7, 0.03)
        elif i == 9:
            guess = explain(hat, a @ Q, 5, 0.02)
        else:
            z = following
            continue
        nu = 3.0 * (1 - s.a**2) / (1 - t.a**2) * (1 - t.a**2 / s.a**2)
        precision = 1 / nu + 1 / (1 - s.a**2)
        mean = (following / nu + s.a * guess / (1 - s.a**2)) / precision
        z = mean + draw() / math.sqrt(precision)


def test_latino():
    problem = Gaussian()
    got = sampled(problem, {"use": "latino", "steps": 5, "delta": 0.7}, 6)
    draw, a, y, eye = problem.numbers(6), problem.a, problem.y, torch.eye(16).double()
    v = problem.sigma_y**2
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    bars = [float(bars[index]) for index in (999, 799, 599, 399, 199)]
    x = torch.linalg.solve(a.T @ a + v * eye, a.T @ y)
    z = math.sqrt(bars[0]) * P @ x + math.sqrt(1 - bars[0]) * draw()
    for bar, following in pairwise([*bars, 1.0]):
        hat, _ = denoised(problem, z / math.sqrt(bar), math.sqrt((1 - bar) / bar))
        held = 1 / (0.7 * (1 - bar))
        x = torch.linalg.solve(a.T @ a / v + held * eye, a.T @ y / v + held * Q @ hat)
        z = math.sqrt(following) * P @ x + math.sqrt(1 - following) * draw()
    assert_close(got, z)
