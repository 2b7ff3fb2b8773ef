r"""DDNM+: the null space from the prior, the range from the measurement, as far as its noise allows.

The step is DDIM's with the guess corrected, and with less fresh noise where the correction brings noise of its own. In
the coordinates z = V^T x of A = U S V^T, with c_1 the weight of DDIM's fresh noise and a_s that of its guess,

    x0y = zhat + lambda (ybar - zhat),    lambda = min(1, c_1 S / (a_s sigma_y))    (0 where S = 0)
    z_s = a_s x0y + c_2 epsilon + sqrt(c_1^2 - (a_s lambda sigma_y / S)^2) n

so that noise of y and fresh noise together are those of the step. The last step, with c_1 = 0, returns the prior's
guess.

Source: Wang, Yu and Zhang, "Zero-shot image restoration using denoising diffusion null-space model", ICLR 2023,
arXiv 2212.00490, section 3.3, eq. 17 to 19.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from .rival import Level, Problem, Rival
from .spectrum import Spectrum
from .vp import CLEAN, ddim_weights, times

__all__ = ["DDNM"]


class DDNM(Rival):
    """The null space from the prior, the range from the measurement.

    Args:
        steps: of the diffusion; each is a network call.
        eta: of DDIM, how much noise is fresh.
    """

    name = "ddnm"
    needs_linear = needs_gaussian = needs_spectrum = True
    approximate = "x0hat stands for x0 at every step, without its error"

    def __init__(self, steps: int, eta: float) -> None:
        self.steps, self.eta = steps, eta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        spectrum = Spectrum.of(problem.linear)
        ybar = spectrum.measured(problem.linear, problem.y)
        gain = spectrum.values.to(ybar) / problem.variance**0.5  # S / sigma_y
        ts = times(self.steps, problem.prior.sigma_range)
        x_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            x0hat = problem.denoise(x_t, t)
            c1, c2 = ddim_weights(t, s, self.eta)
            trust = (c1 * gain / s.a).clamp_max(1)
            brought = torch.where(gain > 0, s.a * trust / gain, 0)
            x0y = x0hat + spectrum.back(trust * (ybar - spectrum.to(x0hat)))
            fresh = spectrum.back((c1**2 - brought**2).clamp_min(0).sqrt() * spectrum.to(problem.noise()))
            yield problem.level(i, len(ts), t, x_t, x0hat, x0y)
            x_t = s.a * x0y + c2 * (x_t - t.a * x0hat) / t.s + fresh
