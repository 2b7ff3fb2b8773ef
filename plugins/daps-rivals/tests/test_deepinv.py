"""The samplers that deepinv has, too: a second opinion, in the environment that has deepinv.

Its versions differ from the papers by what is undone here: noise divided by the root of two and a small number in
quotients (DDRM), images in [0, 1], another start and no correction at the last time (DiffPIR), single precision (DPS).
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from daps_rivals import vp
from problem import Gaussian, assert_close

from daps_kit import build
from daps_kit.contracts import RandomStreams

dinv = pytest.importorskip("deepinv")

IMAGE = (1, 1, 4, 4)


@pytest.fixture
def problem():
    """A mask over half of the numbers, which both sides know the singular values of."""
    return Gaussian().with_parts(torch.eye(16, dtype=torch.float64)[::2])


@pytest.fixture
def physics(problem):
    mask = torch.zeros(16, dtype=torch.float64)
    mask[::2] = 1
    noise = dinv.physics.GaussianNoise(problem.sigma_y)
    made = dinv.physics.Inpainting((1, 4, 4), mask=mask.reshape(IMAGE[1:]), noise_model=noise)
    return made.to(torch.float64)


def measured(problem):
    """Return y as deepinv has it: an image with zeros where nothing is measured."""
    return (problem.a.T @ problem.y).reshape(IMAGE)


class Denoiser(torch.nn.Module):
    def __init__(self, problem, unit=1.0):
        super().__init__()
        self.problem, self.unit = problem, unit

    def forward(self, x, sigma, **kwargs):
        """Denoise images of [-1, 1], or of [0, 1] where a unit is half of theirs."""
        to = x.double() if self.unit == 1 else 2 * x.double() - 1
        found = self.problem.denoise(to.reshape(-1, 16), float(sigma) / self.unit).reshape(x.shape)
        return (found if self.unit == 1 else found / 2 + 0.5).to(x.dtype)


@pytest.mark.parametrize(("eta", "etab"), [(0.85, 1.0), (0.4, 0.7)])
def test_ddrm(problem, physics, fed, eta, etab):
    got = problem.sample(build("sampler", {"use": "ddrm", "steps": 15, "eta": eta, "eta_b": etab}), 5)
    draw = problem.numbers(5)
    fed(lambda: math.sqrt(2) * draw())
    sigmas = [t.sigma for t in vp.times(15, (0.0, 1e9))]
    model = dinv.sampling.DDRM(Denoiser(problem), sigmas=sigmas, eta=eta, etab=etab, eps=0.0)
    physics.noise_model.sigma = torch.tensor(problem.sigma_y, dtype=torch.float64)
    assert_close(got[0], model(measured(problem), physics).flatten())


@pytest.mark.parametrize("zeta", [0.1, 0.7])
def test_diffpir(problem, physics, fed, zeta):
    """Its x_t at the last time, within the rounding of its single-precision schedule; it clips, so x0 is small."""
    weight, steps = 3.0, 12
    problem.mu, problem.covariance = problem.mu / 4, problem.covariance / 40
    problem = problem.with_parts(problem.a)
    sampler = build("sampler", {"use": "diffpir", "steps": steps, "weight": weight, "zeta": zeta})
    y = problem.y.reshape(1, 1, 1, -1)
    *_, last = sampler.sample(problem.prior, problem.operator, y, RandomStreams([6]))
    times = vp.times(steps, (0.0, 1e9), "quad")
    model = dinv.sampling.DiffPIR(
        Denoiser(problem, 0.5), dinv.optim.L2(), sigma=0.0, max_iter=steps, zeta=zeta, lambda_=weight
    )
    sigmas = model.reduced_alpha_cumprod
    rhos = (
        weight / 2 * problem.sigma_y**2 / sigmas**2
    )  # the proximal step of [0, 1] has half the weight of [-1, 1]
    places = torch.tensor([999 - int((sigmas - t.sigma).abs().argmin()) for t in times])
    model.get_noise_schedule = lambda sigma: (rhos, sigmas.flip(0), places)
    draw = problem.numbers(6)
    start = draw().reshape(IMAGE)
    first = float(sigmas.max())
    held = [start / float(model.sqrt_alphas_cumprod[-1]) / first]
    fed(lambda: held.pop() if held else draw())
    model.sigma = 0.0
    found = model(measured(problem) / 2 + physics.mask / 2, physics, x_init=torch.full(IMAGE, 0.5).double())
    wanted = (2 * found - 1).flatten() / times[-1].a
    torch.testing.assert_close(last.x_t.flatten(), wanted.double(), rtol=1e-3, atol=1e-3)


def test_dps(problem, physics):
    """With its gradient of the misfit through the denoiser, and ancestral steps."""
    zeta, steps = 0.7, 30
    got = problem.sample(build("sampler", {"use": "dps", "steps": steps, "zeta": zeta}), 7)
    draw, y = problem.numbers(7), measured(problem)

    class Smooth(torch.nn.Module):
        def forward(self, x, sigma, **kwargs):
            gain = problem.gain(float(sigma)).to(x)
            mu = problem.mu.to(x)
            return (mu + (x.reshape(-1, 16) - mu) @ gain.T).reshape(x.shape)

    fidelity = dinv.sampling.DPSDataFidelity(denoiser=Smooth(), weight=zeta)
    x = draw().reshape(IMAGE)
    for t, s in pairwise([*vp.times(steps, (0.0, 1e9)), vp.CLEAN]):
        clean = problem.denoise(x.reshape(-1, 16) / t.a, t.sigma).reshape(IMAGE)
        pull = fidelity.grad((x / t.a).detach(), y.float(), physics.float(), t.sigma).double() / t.a
        x = vp.ancestral(x, clean, t, s, draw().reshape(IMAGE)) - pull
    torch.testing.assert_close(got[0], x.flatten(), rtol=1e-4, atol=1e-4)
