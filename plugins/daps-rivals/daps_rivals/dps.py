r"""DPS: diffusion posterior sampling.

Ancestral sampling, and after each step one step down the misfit of the denoised image, by its derivative through the
denoiser:

    x_s = ancestral(x_t, x0hat) - zeta grad_{x_t} ||y - A(x0hat(x_t))||

which is zeta_i = zeta' / ||y - A(x0hat)|| on the squared norm, with zeta' = zeta / 2. For noise that is not Gaussian
the squared norm is the noise model's misfit.

Source: Chung et al., "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023, arXiv 2209.14687,
Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from daps_kit.linalg import per_sample

from .rival import Level, Problem, Rival
from .vp import CLEAN, ancestral, times

__all__ = ["DPS"]


class DPS(Rival):
    """Diffusion posterior sampling.

    Args:
        steps: of the diffusion; each is a network call and a Jacobian product.
        zeta: length of a step down the misfit.
    """

    name = "dps"
    approximate = "p(y | x_t) is taken to be p(y | x0hat), with a step of a length that is tuned"

    def __init__(self, steps: int, zeta: float) -> None:
        self.steps, self.zeta = steps, zeta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        ts = times(self.steps, problem.prior.sigma_range)
        x_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            x0hat, pull_back = problem.denoise_vjp(x_t, t)
            misfit, gradient = problem.operator.loss_grad(x0hat, problem.y)
            norm = misfit.clamp_min(1e-20).sqrt()
            x_s = ancestral(x_t, x0hat, t, s, problem.noise())
            x_s = x_s - self.zeta * pull_back(gradient) / per_sample(2 * norm, x_t)
            yield problem.level(i, len(ts), t, x_t, x0hat, x_s if s == CLEAN else x0hat)
            x_t = x_s
