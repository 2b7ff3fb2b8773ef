r"""DCDP: data consistency decoupled from diffusion purification, in turns.

From x = 0, for k = 1, ..., K with times T_k falling in equal steps from T_0 to 1

    x      = S steps down ||y - A(x)||^2 / 2 from x, by gradient descent with momentum
    x_t    = a_t x + s_t n,    t = T_k
    x      = what DDIM without fresh noise makes of x_t, in at most J steps

The diffusion never sees y, and the descent never sees the prior: the noise of the second line wipes out what the first
left of artefacts, ever less of it. For noise that is not Gaussian the squared norm is the noise model's misfit.

Source: Li, Kwon, Liang, Alkhouri, Ravishankar and Qu, "Decoupled data consistency with diffusion purification for image
restoration", arXiv 2403.06054, version 1 of its algorithm; momentum and schedule as in its implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from .rival import Level, Problem, Rival
from .vp import CLEAN, ddim, times

__all__ = ["DCDP"]


class DCDP(Rival):
    """Data consistency and purification in turns.

    Args:
        iterations: K.
        purification_steps: J; each is a network call.
        descent_steps: S.
        lr: step size of the descent.
        momentum: of the descent.
        first: T_0, counted from 1 to 1000.
    """

    name = "dcdp"
    approximate = "an image that fits y is purified without y, and nothing is drawn from a posterior"

    def __init__(
        self,
        iterations: int,
        purification_steps: int,
        descent_steps: int,
        lr: float,
        momentum: float,
        first: int,
    ) -> None:
        self.iterations, self.purification_steps, self.descent_steps = (
            iterations,
            purification_steps,
            descent_steps,
        )
        self.lr, self.momentum, self.first = lr, momentum, first

    def starts(self) -> list[int]:
        """Return T_k."""
        falls = (self.first - 1) / max(1, self.iterations - 1)
        return [max(1, round(self.first - k * falls)) for k in range(self.iterations)]

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield a level an iteration."""
        x = problem.zeros()
        for k, start in enumerate(self.starts()):
            velocity = torch.zeros_like(x)
            for _ in range(self.descent_steps):
                _, gradient = problem.operator.loss_grad(x, problem.y)
                velocity = self.momentum * velocity + gradient / 2
                x = x - self.lr * velocity
            ts = times(min(self.purification_steps, start), problem.prior.sigma_range, start=start)
            noisy = x_t = ts[0].a * x + ts[0].s * problem.noise()
            guesses = []
            for t, s in pairwise([*ts, CLEAN]):
                guesses.append(problem.denoise(x_t, t))
                x_t = ddim(x_t, guesses[-1], t, s, 0.0, torch.zeros_like(x_t))
            x = x_t
            yield problem.level(k, self.iterations, ts[0], noisy, guesses[0], x)
