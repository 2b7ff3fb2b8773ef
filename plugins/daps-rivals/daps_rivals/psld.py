r"""PSLD: posterior sampling with a latent diffusion, held to latents that the encoder gives back.

After each step of DDIM one step down

    omega ||y - A D(z0hat)|| + gamma ||z0hat - E(A^T y + (I - A^T A) D(z0hat))||

by z_t, through decoder D, encoder E and denoiser: the first term as in DPS, the second glues what is measured to what
is not, and asks for a fixed point of the encoder. With a prior over pixels D and E are the identity.

Source: Rout, Raoof, Daras, Caramanis, Dimakis and Shakkottai, "Solving linear inverse problems provably via posterior
sampling with latent diffusion models", NeurIPS 2023, arXiv 2307.00619, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from daps_kit.linalg import inner

from .rival import Level, Problem, Rival
from .vp import CLEAN, ddim, times

__all__ = ["PSLD"]


class PSLD(Rival):
    """Posterior sampling with a latent diffusion.

    Args:
        steps: of the diffusion; each is a network call and a Jacobian product.
        omega: weight of the misfit.
        gamma: weight of the glue.
        eta: of DDIM, how much noise is fresh.
    """

    name = "psld"
    needs_linear = takes_latents = True
    approximate = "p(y | z_t) is taken to be p(y | z0hat), with steps of a length that is tuned"

    def __init__(self, steps: int, omega: float, gamma: float, eta: float) -> None:
        self.steps, self.omega, self.gamma, self.eta = steps, omega, gamma, eta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        prior, operator, y = problem.prior, problem.linear, problem.y
        ts = times(self.steps, prior.sigma_range)
        z_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            with torch.enable_grad():
                leaf = z_t.detach().requires_grad_()
                z0hat = prior.denoise(leaf / t.a, t.sigma)
                image = prior.decode(z0hat)
                residual = operator.project(y - operator.forward(image))
                apart = z0hat - prior.encode(image + operator.adjoint(residual))
                terms = self.omega * inner(residual, residual).clamp_min(1e-20).sqrt()
                terms = terms + self.gamma * inner(apart, apart).clamp_min(1e-20).sqrt()
                (gradient,) = torch.autograd.grad(terms.sum(), leaf)
            z0hat = z0hat.detach()
            z_s = ddim(z_t, z0hat, t, s, self.eta, problem.noise()) - gradient
            yield problem.level(i, len(ts), t, z_t, z0hat, z_s if s == CLEAN else z0hat)
            z_t = z_s
