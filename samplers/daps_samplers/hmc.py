r"""Hamiltonian Monte Carlo in whitened coordinates, with a Metropolis test.

With x = centre + C^{1/2} w and U(w) = -log p(w | x_t, y), a step draws p ~ N(0, I), follows L leapfrog steps

    p <- p - h s U'(w) / 2,    w <- w + h s p,    p <- p - h s U'(w) / 2

and takes the end where log u < H(w, p) - H(w', p'), H = U + |p|^2 / 2. That leaves the target exactly invariant for any
operator and noise model; L = 1 is the Metropolis-adjusted Langevin algorithm. The mass is diag(s^{-2}) in w.
s = 1, unless the curvature M of the target is nearly diagonal in w, as it is where pixels are independent a priori and
the operator acts on each by itself (masks, HDR). Then s = diag(M)^{-1/2}, and all directions are equally stiff.

h is each sample's own, and in each step up to 30 % smaller at random, so that trajectories do not end where they began.
It starts at 1 / sqrt(largest curvature), measured by power iteration, and during the first half of a level's steps goes
after a target acceptance by dual averaging; then it is fixed.

Sources: Neal, "MCMC using Hamiltonian dynamics", 2011; Hoffman and Gelman, "The No-U-Turn sampler", JMLR 2014, section
3.2 (dual averaging); Roberts and Rosenthal, 1998, and Beskos et al., 2013 (acceptance of 0.574 and 0.651).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import (
    Kernel,
    KernelInfo,
    RandomStreams,
    Target,
)
from daps_kit.linalg import inner, per_sample

from .dual_averaging import DualAveraging
from .whitened import Linearised, Whitened, random_signs

__all__ = ["HMC", "HMCState", "diagonal_scale"]

JITTER = 0.3
DIAGONAL = 0.1
"""Share of the curvature off the diagonal, by norm, up to which the diagonal is worth while."""


class HMCState(NamedTuple):
    """Chains in whitened coordinates, and what adapts their step size.

    Attributes:
        x: position, [B, ...].
        w: whitened position, [B, ...].
        log_density, gradient: log p(w), [B], and its gradient by w, [B, ...].
        scale: s, [B, ...].
        tuning: dual averaging of log h.
    """

    x: Tensor
    w: Tensor
    log_density: Tensor
    gradient: Tensor
    scale: Tensor
    tuning: DualAveraging


class HMC(Kernel):
    """Hamiltonian Monte Carlo.

    Args:
        steps: steps at each level, each of `leapfrog` gradients.
        leapfrog: L, at least 1.
        acceptance: the target acceptance, in (0, 1).
        step_size: h, fixed; None, the default, adapts it.
    """

    needs_density = True
    advice = "look at the operator and at the measurement"

    def __init__(
        self,
        steps: int = 20,
        leapfrog: int = 5,
        acceptance: float = 0.65,
        *,
        step_size: float | None = None,
    ) -> None:
        self.steps, self.leapfrog, self.acceptance, self.step_size = steps, leapfrog, acceptance, step_size

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> HMCState:
        """Return chains at x; one that starts where the density is not finite is lost (NaN).

        Raises:
            daps_kit.errors.ComponentError: the target's density is not known.
        """
        space = Whitened(target)
        w = space.coordinates(x)
        log_density, gradient = space.log_density_grad(x, w)
        lost = per_sample(~torch.isfinite(log_density), x) != 0
        scale = torch.ones_like(w)
        if self.step_size is None:
            here = Linearised(space, x)
            here.weight = target.likelihood_curvature(here.clean)
            scale = diagonal_scale(here)
            probe = streams.normal(w.shape[1:], w.dtype)
            stiffness = here.stiffness(probe, scale=scale)
            tuning = DualAveraging.begin(-0.5 * stiffness.log(), self.acceptance, self.steps // 2)
        else:
            log_h = torch.full_like(log_density, math.log(self.step_size))
            tuning = DualAveraging.begin(log_h, self.acceptance, 0)
        return HMCState(torch.where(lost, torch.nan, x), w, log_density, gradient, scale, tuning)

    def step(self, target: Target, state: HMCState, streams: RandomStreams) -> tuple[HMCState, KernelInfo]:
        """Take one step; draws a normal number an entry of x, then two uniform ones a sample."""
        space = Whitened(target)
        start, w, old, gradient, scale, tuning = state
        h = tuning.step_size
        p = streams.normal(w.shape[1:], w.dtype)
        step = per_sample(h * (1 - JITTER * streams.uniform((), w.dtype)), w) * scale
        kinetic = inner(p, p) / 2
        moved, slope, x, new = w, gradient, start, old
        for _ in range(self.leapfrog):
            p = p + step / 2 * slope
            moved = moved + step * p
            x = space.image(moved)
            new, slope = space.log_density_grad(x, moved)
            p = p + step / 2 * slope
        log_ratio = new - old + kinetic - inner(p, p) / 2
        accepted = streams.uniform((), w.dtype).log() < log_ratio  # false where a ratio is NaN
        acceptance = torch.nan_to_num(log_ratio, nan=-torch.inf).clamp_max(0).exp()
        rows = per_sample(accepted, w) != 0
        following = HMCState(
            torch.where(rows, x, start),
            torch.where(rows, moved, w),
            torch.where(accepted, new, old),
            torch.where(rows, slope, gradient),
            scale,
            tuning.updated(acceptance),
        )
        return following, KernelInfo(acceptance=acceptance, step_size=h)


def diagonal_scale(here: Linearised) -> Tensor:
    """Return diag(M)^{-1/2} of each sample whose M is nearly diagonal, 1 for the others, [B, ...].

    With random signs u, u (M u) is the diagonal if there is nothing else; another draw of signs tells whether it is.
    """
    u, v = (signs.expand_as(here.x) for signs in random_signs(2, here.x))
    diagonal = (u * here.multiply(u)).clamp_min(1)
    image = here.multiply(v)
    off = (image - diagonal * v).flatten(1).norm(dim=1) / image.flatten(1).norm(dim=1)
    return torch.where(per_sample(off < DIAGONAL, diagonal) != 0, diagonal.rsqrt(), 1)
