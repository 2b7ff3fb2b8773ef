r"""LATINO: a latent consistency inverse solver, an image sent through the prior and held to y in turns, in a few steps.

From z_T, the encoded (A^T A + sigma_y^2 I)^{-1} A^T y with the noise of the first time,

    x    = D(z0hat)
    x0y  = argmin ||y - A x'||^2 / (2 sigma_y^2) + ||x' - x||^2 / (2 delta s_t^2)
    z_s  = a_s E(x0y) + s_s n

with decoder D and encoder E: nothing is differentiated. Made for consistency models, whose z0hat is a draw; with a
diffusion model it is the denoised mean. With a prior over pixels D and E are the identity.

Source: Spagnoletti, Prost, Almansa, Papadakis and Pereyra, "LATINO-PRO: latent consistency inverse solver with prompt
optimization", ICCV 2025, arXiv 2503.12615, Algorithm 1 without the prompt; delta, which its implementation tunes for
each task and time, is one number here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .rival import Level, Problem, Rival
from .vp import CLEAN, times

__all__ = ["LATINO"]


class LATINO(Rival):
    """A latent consistency inverse solver.

    Args:
        steps: how many; each is a network call.
        delta: how far an image may go towards y.
    """

    name = "latino"
    needs_linear = needs_gaussian = takes_latents = True
    approximate = "its chain is stopped after a few steps, and takes the likeliest image in place of a draw"

    def __init__(self, steps: int, delta: float) -> None:
        self.steps, self.delta = steps, delta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        prior, operator, variance = problem.prior, problem.linear, problem.variance
        ts = times(self.steps, prior.sigma_range, "trailing")
        seen = operator.adjoint(operator.project(problem.y))
        z_t = ts[0].a * prior.encode(operator.solve_normal(seen, variance)) + ts[0].s * problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            z0hat = problem.denoise(z_t, t)
            weight = variance / (self.delta * t.s**2)
            z0y = prior.encode(operator.solve_normal(seen + weight * prior.decode(z0hat), weight))
            yield problem.level(i, len(ts), t, z_t, z0hat, z0y)
            z_t = s.a * z0y + s.s * problem.noise()
