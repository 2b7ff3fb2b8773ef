"""The particle filters that no other library has in this form: each again with dense matrices, in the space of y."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from daps_rivals import vp
from daps_rivals.particles import systematic
from problem import SIGMA_Y, Gaussian, assert_close

from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_kit.testing.problems import SHAPE

EYE = torch.eye(16, dtype=torch.float64)


class Numbers:
    """The random numbers of a stream, in the order in which a filter draws them."""

    def __init__(self, seed, particles):
        self.streams, self.particles = RandomStreams([seed]), particles

    def one(self):
        return self.streams.normal(SHAPE, torch.float64).flatten()

    def all(self):
        return self.streams.normal((self.particles, *SHAPE), torch.float64)[0].flatten(1)

    def index(self, weights):
        return systematic(torch.as_tensor(weights)[None], self.streams.uniform((), torch.float64))[0]


def root(matrix):
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def log_normal(x, mean, covariance):
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)


def schedule(steps):
    return pairwise([*vp.times(steps, (0.0, 1e9)), vp.CLEAN])


def denoise(problem, x, t):
    return problem.denoise(x / t.a, t.sigma)


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddsmc(eta):
    problem, k, noise = Gaussian(), 4, SIGMA_Y**2
    got = problem.sample(build("sampler", {"use": "ddsmc", "steps": 14, "particles": k, "eta": eta}), 5)
    draw, a, y = Numbers(5, k), problem.a, problem.y
    x, carried = draw.all(), 0.0
    for t, s in schedule(14):
        hat = denoise(problem, x, t)
        beta = 1 - t.a**2 / s.a**2
        d = eta - eta * beta - eta * t.a**2 + beta
        f, g, variance = s.a * beta / d, eta * math.sqrt(1 - beta) * (1 - s.a**2) / d, beta * (1 - s.a**2) / d
        rho2 = (1 - t.a**2) / 2 if s == vp.CLEAN else min((1 - t.a**2) / 2, variance / f**2)
        seen = noise * torch.eye(8, dtype=torch.float64) + rho2 * a @ a.T
        likelihood = log_normal(y, hat @ a.T, seen)
        index = draw.index(carried + likelihood)
        x, hat, likelihood = x[index], hat[index], likelihood[index]
        m = a.T @ a / noise + EYE / rho2
        mean = f * torch.linalg.solve(m, (a.T @ y / noise + hat / rho2).T).T + g * x
        n = draw.all()
        if s == vp.CLEAN:
            last = log_normal(y, mean @ a.T, noise * torch.eye(8, dtype=torch.float64))
            assert_close(got[0], mean[draw.index(last - likelihood)[0]])
            return
        spread = variance * EYE + f**2 * (torch.linalg.inv(m) - rho2 * EYE)
        following = mean + n @ root(spread)
        prior = log_normal(following, f * hat + g * x, variance * EYE)
        carried = prior - log_normal(following, mean, spread + 1e-13 * EYE) - likelihood
        x = following


def test_fps_smc():
    problem, k, noise, c = Gaussian(), 4, SIGMA_Y**2, 0.8
    section = {"use": "fps_smc", "steps": 14, "particles": k, "fresh": c}
    got = problem.sample(build("sampler", section), 6)
    draw, a, y = Numbers(6, k), problem.a, problem.y
    ts = vp.times(14, (0.0, 1e9))
    path = [a @ draw.one()]
    for t, s in pairwise(ts):
        kept = math.sqrt((1 - c) * (1 - s.a**2) / (1 - t.a**2)) * (path[-1] - t.a * y)
        path.append(s.a * y + kept + math.sqrt(c * (1 - s.a**2)) * a @ draw.one())

    def given(mean, variance, y_s, s):
        covariance = torch.linalg.inv(EYE / variance + a.T @ a / (s.a**2 * noise))
        pull = mean / variance + a.T @ y_s / (s.a**2 * noise)
        return pull @ covariance + draw.all() @ root(covariance)

    x = given(torch.zeros(k, 16, dtype=torch.float64), 1.0, path[0], ts[0])
    for (t, s), y_s in zip(schedule(14), [*path[1:], None], strict=True):
        hat = denoise(problem, x, t)
        if y_s is None:
            assert_close(got[0], hat[0])
            return
        variance = c * (1 - s.a**2)
        mean = s.a * hat + math.sqrt((1 - c) * (1 - s.a**2) / (1 - t.a**2)) * (x - t.a * hat)
        x = given(mean, variance, y_s, s)
        evidence = log_normal(y_s, mean @ a.T, variance * a @ a.T + s.a**2 * noise * torch.eye(8).double())
        x = x[draw.index(evidence)]


def test_mcgdiff():
    """Direction by direction, as the paper writes it."""
    problem, k, noise, kappa = Gaussian(), 4, SIGMA_Y**2, 1e-3
    section = {"use": "mcgdiff", "steps": 16, "particles": k, "kappa": kappa}
    got = problem.sample(build("sampler", section), 7)
    draw = Numbers(7, k)
    u, values, vt = np.linalg.svd(problem.a.numpy())
    ybar = (u.T @ problem.y.numpy()) / values
    ts = vp.times(16, (0.0, 1e9))
    bars = np.array([t.a**2 for t in ts])
    tau = [bars[np.argmin(np.abs(noise * bars - (1 - bars) * v**2))] for v in values]

    def log_potential(z, mean, extra, bar):
        total = np.zeros(k)
        for i in range(8):
            if bar <= tau[i]:
                variance = extra + 1 - (1 - kappa) * bar / tau[i]
                total += (z[:, i] - mean[i]) ** 2 / variance / -2
        return total

    z = draw.all().numpy() @ vt.T
    potential = log_potential(z, ts[0].a * ybar, 0.0, bars[0])
    for t, s in schedule(16):
        hat = denoise(problem, torch.from_numpy(z @ vt), t).numpy() @ vt.T
        c2 = (1 - s.a**2) / (1 - t.a**2) * (1 - t.a**2 / s.a**2)
        m = s.a * hat + math.sqrt(max(0.0, 1 - s.a**2 - c2)) * (z - t.a * hat) / math.sqrt(1 - t.a**2)
        n = draw.all().numpy() @ vt.T
        if s.a**2 <= max(tau):
            weight = log_potential(m, s.a * ybar, c2, s.a**2) - potential
            m = m[draw.index(weight).numpy()]
            z = m + math.sqrt(c2) * n
            for i in range(8):
                if s.a**2 <= tau[i]:
                    v = 1 - (1 - kappa) * s.a**2 / tau[i]
                    gain = c2 / (c2 + v)
                    z[:, i] = gain * s.a * ybar[i] + (1 - gain) * m[:, i] + math.sqrt(v * gain) * n[:, i]
            potential = log_potential(z, s.a * ybar, 0.0, s.a**2)
        else:
            z = m + math.sqrt(c2) * n
    misfit = ((z @ vt @ problem.a.numpy().T - problem.y.numpy()) ** 2).sum(1) / noise
    index = draw.index(misfit / -2 - potential)
    assert_close(got[0], torch.from_numpy(z @ vt)[index[0]])
