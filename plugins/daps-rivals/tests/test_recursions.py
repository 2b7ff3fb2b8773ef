"""The samplers that no other library has in this form: a second derivation from the papers, with the same numbers.

Where the tests of a sampler say "moments", its mean and covariance follow in closed form, for each step is affine in
x_t and in fresh noise where the prior is Gaussian, and are compared over 4,000 runs.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from daps_rivals import vp
from problem import Gaussian, assert_close

from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_kit.testing.problems import Moments, Posterior


def svd(problem):
    """Return ybar, the singular values and V of the problem, in full, by numpy."""
    u, s, vt = np.linalg.svd(problem.a.numpy())
    values = np.zeros(16)
    values[:8] = s
    ybar = np.zeros(16)
    ybar[:8] = (u.T @ problem.y.numpy()) / s
    return ybar, values, vt.T


def grid(steps, spacing="uniform"):
    """Return sigma and alphabar by the schedule of Ho et al., straight from its definition."""
    alphabar, product = [], 1.0
    for k in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * k / 999)
        alphabar.append(product)
    chosen = sorted({round(p) for p in np.linspace(0, 999, steps).tolist()}, reverse=True)
    return [alphabar[t] for t in chosen]


def test_times_are_those_of_the_paper():
    found = vp.times(20, (0.0, 1e9))
    np.testing.assert_allclose([t.a**2 for t in found], grid(20), rtol=1e-9)
    assert all(abs(t.a**2 + t.s**2 - 1) < 1e-12 for t in found)
    inside = vp.times(1000, (0.1, 10.0))
    assert 0.1 <= inside[-1].sigma < 0.12
    assert 9 < inside[0].sigma <= 10.0


@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 1.0), (0.3, 0.6)])
def test_ddrm(eta, eta_b):
    problem = Gaussian()
    got = problem.sample(build("sampler", {"use": "ddrm", "steps": 15, "eta": eta, "eta_b": eta_b}), 5)
    draw, (ybar, s, v) = problem.numbers(5), svd(problem)
    sigmas = [math.sqrt((1 - ab) / ab) for ab in grid(15)]
    noise = np.where(s > 0, problem.sigma_y / np.where(s > 0, s, 1), np.inf)
    n = v.T @ draw().numpy()
    z = np.empty(16)
    for i in range(16):
        sure = s[i] > 0 and sigmas[0] >= noise[i]
        z[i] = ybar[i] + math.sqrt(sigmas[0] ** 2 - noise[i] ** 2) * n[i] if sure else sigmas[0] * n[i]
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        hat = v.T @ problem.denoise(torch.from_numpy(v @ z), sigma).numpy()
        n = v.T @ draw().numpy()
        for i in range(16):
            if s[i] == 0:
                z[i] = (
                    hat[i]
                    + math.sqrt(1 - eta**2) * following * (z[i] - hat[i]) / sigma
                    + eta * following * n[i]
                )
            elif following < noise[i]:
                z[i] = (
                    hat[i]
                    + math.sqrt(1 - eta**2) * following * (ybar[i] - hat[i]) / noise[i]
                    + eta * following * n[i]
                )
            else:
                z[i] = (1 - eta_b) * hat[i] + eta_b * ybar[i]
                z[i] += math.sqrt(following**2 - eta_b**2 * noise[i] ** 2) * n[i]
    assert_close(got[0], torch.from_numpy(v @ z))


@pytest.mark.parametrize("eta", [0.85, 1.0])
def test_ddnm(eta):
    """In the papers' own form: Sigma_t A^+ and Phi_t as matrices."""
    problem = Gaussian()
    got = problem.sample(build("sampler", {"use": "ddnm", "steps": 12, "eta": eta}), 6)
    draw, (_, s, v) = problem.numbers(6), svd(problem)
    a, y = problem.a.numpy(), problem.y.numpy()
    x = draw().numpy()
    bars = grid(12)
    for bar, following in zip(bars, [*bars[1:], 1.0], strict=True):
        hat = problem.denoise(torch.from_numpy(x / math.sqrt(bar)), math.sqrt((1 - bar) / bar)).numpy()
        c1 = eta * math.sqrt((1 - following) / (1 - bar) * (1 - bar / following))
        c2 = math.sqrt(max(0.0, 1 - following - c1**2))
        weight = math.sqrt(following)
        trust = [
            1.0
            if s[i] > 0 and c1 >= weight * problem.sigma_y / s[i]
            else c1 * s[i] / (weight * problem.sigma_y)
            for i in range(16)
        ]
        gamma = [
            c1**2 if s[i] == 0 else max(0.0, c1**2 - (weight * trust[i] * problem.sigma_y / s[i]) ** 2)
            for i in range(16)
        ]
        corrected = hat - v @ np.diag(trust) @ v.T @ np.linalg.pinv(a) @ (a @ hat - y)
        epsilon = (x - math.sqrt(bar) * hat) / math.sqrt(1 - bar)
        x = weight * corrected + c2 * epsilon + v @ np.diag(np.sqrt(gamma)) @ v.T @ draw().numpy()
    assert_close(got[0], torch.from_numpy(x))


def test_red_diff():
    """With the optimiser of torch and its loss differentiated."""
    problem = Gaussian()
    section = {"use": "red_diff", "steps": 60, "weight": 0.4, "lr": 0.05}
    got = problem.sample(build("sampler", section), 7)
    draw = problem.numbers(7)
    normal = problem.a.T @ problem.a + problem.sigma_y**2 * torch.eye(16, dtype=torch.float64)
    mu = torch.linalg.solve(normal, problem.a.T @ problem.y).requires_grad_()
    adam = torch.optim.Adam([mu], lr=0.05, betas=(0.9, 0.99))
    for bar in grid(60):
        n = draw()
        sigma = math.sqrt((1 - bar) / bar)
        with torch.no_grad():
            noisy = mu + sigma * n
            epsilon = (noisy - problem.denoise(noisy, sigma)) / sigma
        loss = (problem.y - problem.a @ mu).square().mean() / 2 + 0.4 * sigma * ((epsilon - n) * mu).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert_close(got[0], mu.detach())


def test_pnp_dm():
    """Likelihood steps by the mean and a root of the covariance that the same noise gives, prior steps one by one."""
    problem = Gaussian()
    section = {"use": "pnp_dm", "iterations": 6, "prior_steps": 4, "rho": 3.0, "rho_min": 0.3, "decay": 0.9}
    got = problem.sample(build("sampler", section), 8)
    streams = RandomStreams([8])
    a, y, eye = problem.a, problem.y, torch.eye(16, dtype=torch.float64)
    x = torch.zeros(16, dtype=torch.float64)
    alpha = min(0.9, (0.3 / 3.0) ** (1 / 5))
    for k in range(6):
        rho = max(3.0 * alpha**k, 0.3)
        e = streams.normal((1, 1, 8), torch.float64).flatten()
        n = streams.normal((1, 4, 4), torch.float64).flatten()
        precision = a.T @ a / problem.sigma_y**2 + eye / rho**2
        mean = torch.linalg.solve(precision, a.T @ y / problem.sigma_y**2 + x / rho**2)
        x = mean + torch.linalg.solve(precision, a.T @ e / problem.sigma_y + n / rho)
        sigmas = [(rho ** (1 / 7) + i / 3 * (0.01 ** (1 / 7) - rho ** (1 / 7))) ** 7 for i in range(4)]
        for sigma, following in pairwise(sigmas):
            variance = following**2 * (sigma**2 - following**2) / sigma**2
            n = streams.normal((1, 4, 4), torch.float64).flatten()
            hat = problem.denoise(x, sigma)
            x = hat + following**2 / sigma**2 * (x - hat) + math.sqrt(variance) * n
        x = problem.denoise(x, sigmas[-1])
    assert_close(got[0], x)


@pytest.mark.parametrize("delta", [0.01, 3.0])
def test_sitcom(delta):
    """With the optimiser of torch, through the denoiser as a matrix."""
    problem = Gaussian()
    section = {"use": "sitcom", "steps": 5, "inner": 6, "lr": 0.03, "weight": 0.2, "delta": delta}
    got = problem.sample(build("sampler", section), 9)
    draw = problem.numbers(9)
    x, bars = draw(), grid(5)
    for bar, following in zip(bars, [*bars[1:], 1.0], strict=True):
        sigma = math.sqrt((1 - bar) / bar)
        v = x.clone().requires_grad_()
        adam = torch.optim.Adam([v], lr=0.03)
        for _ in range(6):
            misfit = (problem.y - problem.a @ problem.denoise(v / math.sqrt(bar), sigma)).square().sum()
            if float(misfit) < delta**2 * problem.sigma_y**2 * 8:
                break
            adam.zero_grad()
            (misfit + 0.2 * (v - x).square().sum()).backward()
            adam.step()
        hat = problem.denoise(v.detach() / math.sqrt(bar), sigma)
        x = math.sqrt(following) * hat + math.sqrt(1 - following) * draw()
    assert_close(got[0], x)


def test_pnp_hqs():
    problem = Gaussian()
    got = problem.sample(build("sampler", {"use": "pnp_hqs", "steps": 7, "sigma_max": 2.0, "weight": 0.5}), 1)
    a, y, v = problem.a, problem.y, problem.sigma_y**2
    z = a.T @ y
    for sigma in np.geomspace(2.0, problem.sigma_y, 7):
        normal = a.T @ a / v + 0.5 / sigma**2 * torch.eye(16, dtype=torch.float64)
        z = problem.denoise(torch.linalg.solve(normal, a.T @ y / v + 0.5 / sigma**2 * z), sigma)
    assert_close(got[0], z)


def test_wiener_is_the_mean_of_a_gaussian_posterior():
    problem = Gaussian()
    got = problem.sample(build("sampler", {"use": "wiener"}), 1)
    posterior = Posterior.of(problem.mu, problem.covariance, problem.operator, problem.y, problem.sigma_y**2)
    assert_close(got[0], posterior.mean)


def test_mmps_draws_from_a_gaussian_posterior():
    """Its moments are matched, so that only the steps of the diffusion are left of its error."""
    problem = Gaussian()
    x = problem.sample(build("sampler", {"use": "mmps", "steps": 300, "solver_steps": 8}), *range(4000))
    posterior = Posterior.of(problem.mu, problem.covariance, problem.operator, problem.y, problem.sigma_y**2)
    Moments(posterior.whiten(x)).expect_mean(0.05, "mmps")
    Moments(posterior.whiten(x)).expect_covariance(0.05, "mmps")


def test_dcdp():
    """With torch's gradient descent, and DDIM as it was published."""
    problem = Gaussian()
    section = {
        "use": "dcdp",
        "iterations": 5,
        "purification_steps": 6,
        "descent_steps": 4,
        "lr": 0.3,
        "first": 300,
    }
    got = problem.sample(build("sampler", section), 11)
    draw, bars = problem.numbers(11), grid(1000)[::-1]
    x = torch.zeros(16, dtype=torch.float64)
    for start in (300, 225, 150, 76, 1):
        x = x.clone().requires_grad_()
        descent = torch.optim.SGD([x], lr=0.3, momentum=0.9)
        for _ in range(4):
            descent.zero_grad()
            ((problem.y - problem.a @ x).square().sum() / 2).backward()
            descent.step()
        chosen = sorted({round(p) for p in np.linspace(0, start - 1, min(6, start)).tolist()}, reverse=True)
        bar = bars[start - 1]
        x_t = math.sqrt(bar) * x.detach() + math.sqrt(1 - bar) * draw()
        for t, s in pairwise([*chosen, None]):
            bar, following = bars[t], 1.0 if s is None else bars[s]
            hat = problem.denoise(x_t / math.sqrt(bar), math.sqrt((1 - bar) / bar))
            epsilon = (x_t - math.sqrt(bar) * hat) / math.sqrt(1 - bar)
            x_t = math.sqrt(following) * hat + math.sqrt(1 - following) * epsilon
        x = x_t
    assert_close(got[0], x)


@pytest.mark.parametrize(("rho", "descent_steps"), [(200.0, 1), (3.0, 2)])
def test_fast_dips(rho, descent_steps):
    """With gradients by differentiation and the best step by scipy's search along the line."""
    from scipy.optimize import minimize_scalar

    problem = Gaussian()
    section = {"use": "fast_dips", "steps": 6, "rounds": 2, "descent_steps": descent_steps, "rho": rho}
    got = problem.sample(build("sampler", section), 12)
    draw = problem.numbers(12)
    sigmas = [(100 ** (1 / 7) + i / 5 * (0.1 ** (1 / 7) - 100 ** (1 / 7))) ** 7 for i in range(6)]
    x = 100 * draw()
    for sigma, following in pairwise([*sigmas, 0.0]):
        hat = problem.denoise(x, sigma)
        if not following:
            assert_close(got[0], hat)
            return
        x, u, v = hat, torch.zeros(8, dtype=torch.float64), problem.a @ hat
        for _ in range(2):
            for _ in range(descent_steps):

                def height(at, v=v, u=u, hat=hat, sigma=sigma):
                    return (at - hat).square().sum() / 2 / sigma**2 + rho / 2 * (
                        problem.a @ at - v + u
                    ).square().sum()

                leaf = x.clone().requires_grad_()
                (g,) = torch.autograd.grad(height(leaf), leaf)
                best = minimize_scalar(
                    lambda alpha, x=x, g=g: float(height(x - alpha * g)), bounds=(0, 1), method="bounded",
                    options={"xatol": 1e-12},
                )  # fmt: skip
                x = x - best.x * g
            w = problem.a @ x + u
            apart = w - problem.y
            v = w if apart.norm() <= 0.05 else problem.y + 0.05 * apart / apart.norm()
            u = u + problem.a @ x - v
        x = x + following * draw()


def test_red_is_at_a_fixed_point_where_misfit_and_regulariser_balance():
    """The zero of A^T (A x - y) / sigma_y^2 + lambda (x - D(x)), a linear system for a Gaussian prior."""
    problem = Gaussian()
    got = problem.sample(build("sampler", {"use": "red", "steps": 400, "weight": 20.0, "sigma": 0.7}), 1)
    normal, v = problem.a.T @ problem.a / problem.sigma_y**2, problem.sigma_y**2
    gain = problem.gain(0.7).T
    eye = torch.eye(16, dtype=torch.float64)
    offset = problem.mu - gain @ problem.mu
    wanted = torch.linalg.solve(normal + 20 * (eye - gain), problem.a.T @ problem.y / v + 20 * offset)
    assert_close(got[0], wanted)


@pytest.mark.parametrize("gamma", [1.0, 1.3])
def test_pnp_admm(gamma):
    problem = Gaussian()
    section = {"use": "pnp_admm", "steps": 9, "rho": 0.7, "gamma": gamma, "strength": 1.5}
    got = problem.sample(build("sampler", section), 1)
    a, y, rho = problem.a, problem.y, 0.7
    v, dual = a.T @ y, torch.zeros(16, dtype=torch.float64)
    for _ in range(9):
        x = torch.linalg.solve(a.T @ a + rho * torch.eye(16).double(), a.T @ y + rho * v - rho * dual)
        v = problem.denoise(x + dual, math.sqrt((1.5 * problem.sigma_y) ** 2 * 0.7 / rho))
        dual, rho = dual + x - v, rho * gamma
    assert_close(got[0], v)
