"""The samplers that azula has, with its random numbers: the same results."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance.diffpir import DiffPIRDenoiser
from azula.guidance.dps import DPSSampler
from azula.guidance.mmps import MMPSDenoiser
from azula.guidance.pgdm import PGDMSampler
from azula.guidance.tds import TDSSampler
from azula.guidance.tmpd import TMPDenoiser
from azula.sample import DDIMSampler
from daps_rivals import vp
from problem import Gaussian, assert_close

from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_kit.testing.problems import SHAPE

SEEDS = (3, 4)


class Table:
    """A schedule that knows the times of a table alone: t is the index of a time."""

    def __init__(self, times):
        self.a = torch.tensor([t.a for t in times], dtype=torch.float64)
        self.s = torch.tensor([t.s for t in times], dtype=torch.float64)

    def __call__(self, t):
        return self.a[t.long()], self.s[t.long()]


class Known(Denoiser):
    """The exact denoiser of a problem."""

    def __init__(self, problem, times):
        super().__init__()
        self.problem, self.schedule = problem, Table(times)

    def forward(self, x_t, t, **kwargs):
        a, s = self.schedule(t)
        return DiracPosterior(mean=self.problem.denoise(x_t / a, float(s / a)))


def run(problem, sampler, times, seed, fed, start=None):
    """Return azula's sample with the numbers of a seed."""
    draw = problem.numbers(seed)
    x = draw()
    fed(draw)
    for t, s in pairwise(range(len(times))):
        x = sampler.step(x, torch.tensor(t), torch.tensor(s)).detach()
    return x


def schedule(section, steps=None):
    spacing = getattr(section, "spacing", "uniform")
    return [*vp.times(steps or section.calls, (0.0, 1e9), spacing), vp.CLEAN]


def settings(**section):
    from daps_kit.recipe.sections import read_section

    return read_section("sampler", section)


def compare(section, make, fed, problem=None):
    problem, chosen = problem or Gaussian(), settings(**section)
    times = schedule(chosen)
    got = problem.sample(build("sampler", chosen), *SEEDS)
    sampler = make(problem, times, chosen)
    wanted = torch.stack([run(problem, sampler, times, seed, fed) for seed in SEEDS])
    assert_close(got, wanted)


@pytest.mark.parametrize("zeta", [0.3, 1.0])
def test_dps(zeta, fed):
    def make(problem, times, chosen):
        return DPSSampler(Known(problem, times), problem.y, lambda x: x @ problem.a.T, zeta=zeta, silent=True)

    compare({"use": "dps", "steps": 40, "zeta": zeta}, make, fed)


@pytest.mark.parametrize("eta", [0.2, 1.0])
def test_pigdm(eta, fed):
    class Noisy(PGDMSampler):
        """Its pseudoinverse is regularised as noise wants it: r^2 A^T (r^2 A A^T + sigma_y^2)^{-1}."""

        def step(self, x_t, t, s):
            a, b = self.denoiser.schedule(t)
            r2 = (b / a) ** 2 / (1 + (b / a) ** 2)
            inner = r2 * self.matrix @ self.matrix.T + self.variance * torch.eye(8, dtype=torch.float64)
            pseudo = r2 * self.matrix.T @ torch.linalg.inv(inner)
            self.A_inv = lambda y: y @ pseudo.T
            return super().step(x_t, t, s)

    def make(problem, times, chosen):
        sampler = Noisy(
            Known(problem, times), problem.y, lambda x: x @ problem.a.T, None, eta=eta**2, silent=True
        )
        sampler.matrix, sampler.variance = problem.a, problem.sigma_y**2
        return sampler

    compare({"use": "pigdm", "steps": 30, "eta": eta}, make, fed)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("spacing", ["quad", "uniform"])
def test_diffpir(zeta, spacing, fed):
    class Constant(DDIMSampler):
        """The share of fresh noise is zeta, whatever the times."""

        def step(self, x_t, t, s):
            (a, b), (c, d) = self.denoiser.schedule(t), self.denoiser.schedule(s)
            share = 1 - (a / c * d / b) ** 2
            self.eta = zeta / share if share > 0 else 0.0
            return super().step(x_t, t, s)

    def make(problem, times, chosen):
        inner = DiffPIRDenoiser(
            Known(problem, times), problem.y, lambda x: x @ problem.a.T, problem.sigma_y**2,
            lmbda=chosen.weight, solver="cg", iterations=20,
        )  # fmt: skip
        return Constant(inner, silent=True)

    section = {"use": "diffpir", "steps": 25, "zeta": zeta, "weight": 2.0, "spacing": spacing}
    compare(section, make, fed)


@pytest.mark.parametrize("solver_steps", [1, 3])
def test_mmps(solver_steps, fed):
    def make(problem, times, chosen):
        inner = MMPSDenoiser(
            Known(problem, times), problem.y, lambda x: x @ problem.a.T, lambda v: problem.sigma_y**2 * v,
            solver="cg", iterations=solver_steps,
        )  # fmt: skip
        return DDIMSampler(inner, eta=chosen.eta**2, silent=True)

    compare({"use": "mmps", "steps": 20, "solver_steps": solver_steps, "eta": 0.7}, make, fed)


def test_tmpd(fed):
    """On an operator whose row sums of A V A^T are positive throughout, as they are for masks."""

    def make(problem, times, chosen):
        inner = TMPDenoiser(Known(problem, times), problem.y, lambda x: x @ problem.a.T, problem.sigma_y**2)
        return DDIMSampler(inner, eta=chosen.eta**2, silent=True)

    problem = Gaussian()
    mask = torch.eye(16, dtype=torch.float64)[::2]
    problem.covariance = 0.3 * torch.eye(16, dtype=torch.float64) + 0.01
    problem = problem.with_parts(mask)
    compare({"use": "tmpd", "steps": 30, "eta": 1.0}, make, fed, problem)


def test_tds(monkeypatch):
    """Its resampling draws the places of ours; both have the same weights, so that the same particles go on."""
    problem, chosen, particles = Gaussian(), settings(use="tds", steps=12, particles=5), 5
    times = schedule(chosen, 12)
    for seed in SEEDS:
        streams = RandomStreams([seed])
        x = streams.normal((particles, *SHAPE), torch.float64)[0].flatten(1)

        def multinomial(w, count, replacement):
            u = streams.uniform((), torch.float64)  # noqa: B023
            return torch.bucketize((torch.arange(count) + u) / count, w.cumsum(0), right=True).clamp_max(
                count - 1
            )

        def normal(mean, std):
            return mean + std * streams.normal((particles, *SHAPE), torch.float64)[0].flatten(1)  # noqa: B023

        monkeypatch.setattr(torch, "multinomial", multinomial)
        monkeypatch.setattr(torch, "normal", normal)

        def twist(x_hat, sigma):
            variance = problem.sigma_y**2 + sigma**2 / (1 + sigma**2)
            return -(problem.y - x_hat @ problem.a.T).square() / (2 * variance)

        sampler, carry = TDSSampler(Known(problem, times), twist, silent=True), {}
        for t, s in pairwise(range(len(times))):
            x = sampler.step(x, torch.tensor(t), torch.tensor(s), carry)
        monkeypatch.undo()
        assert_close(problem.sample(build("sampler", chosen), seed)[0], x[0])
