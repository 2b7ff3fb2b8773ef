r"""The diffusion of the papers: variance preserving, in T = 1000 steps.

    x_t = a_t x0 + s_t n,    a_t^2 = alphabar_t = (1 - beta_1) ... (1 - beta_t),    a_t^2 + s_t^2 = 1

with beta from 1e-4 to 0.02 in equal steps (Ho et al., arXiv 2006.11239). A prior's denoiser takes
x_t / a_t = x0 + sigma n, sigma = s_t / a_t. With fewer steps, t runs over a part of 1, ..., T, and s is the step that
follows t:

    ancestral   x_s = (a_s b / s_t^2) x0hat + (a s_s^2 / s_t^2) x_t + (s_s / s_t) sqrt(b) n,
                a = a_t / a_s,   b = 1 - a^2
    DDIM        x_s = a_s x0hat + c_2 (x_t - a_t x0hat) / s_t + c_1 n,
                c_1 = eta sqrt(b) s_s / s_t,   c_2^2 = s_s^2 - c_1^2     (Song et al., arXiv 2010.02502, eq. 12 and 16)

which are one for eta = 1. The last step, to s = 0, gives x0hat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from daps_kit.errors import UserError

__all__ = ["CLEAN", "Spacing", "Time", "ancestral", "ddim", "ddim_weights", "karras", "times"]

Spacing = Literal["uniform", "quad", "trailing"]
STEPS = 1000


@dataclass(frozen=True)
class Time:
    """A time of the diffusion.

    Attributes:
        a, s: x_t = a x0 + s n.
    """

    a: float
    s: float

    @property
    def sigma(self) -> float:
        """The noise level of x_t / a."""
        return self.s / self.a


CLEAN = Time(1.0, 0.0)
"""The end."""


def times(
    steps: int, sigma_range: tuple[float, float], spacing: Spacing = "uniform", start: int = STEPS
) -> list[Time]:
    """Return at most so many of the T times, from the noisiest on, whose noise levels are inside a range.

    Args:
        steps: how many; fewer where the range holds fewer.
        sigma_range: the lowest and the highest noise level.
        spacing: in equal steps of t; or of its root, which places more of them at little noise; or in equal steps that
            end one before the lowest.
        start: the noisiest t that is allowed, unless the range holds none so clean.

    Raises:
        UserError: there is none.
    """
    alphabar = np.cumprod(1 - np.linspace(1e-4, 0.02, STEPS))
    sigma = np.sqrt((1 - alphabar) / alphabar)
    inside = np.flatnonzero((sigma >= sigma_range[0]) & (sigma <= sigma_range[1]))
    if not len(inside):
        raise UserError(
            f"sampler: the prior knows noise levels from {sigma_range[0]:g} to {sigma_range[1]:g}; allowed are priors "
            f"that know some from {sigma[0]:.2g} to {sigma[-1]:.3g}"
        )
    first = float(inside[0])
    last = max(first, min(float(inside[-1]), start - 1.0))
    if spacing == "quad":
        places = np.linspace(math.sqrt(first), math.sqrt(last), steps) ** 2
    elif spacing == "trailing":
        places = last - np.arange(steps) * (last + 1 - first) / steps
    else:
        places = np.linspace(first, last, steps) if steps > 1 else np.array([last])
    chosen = sorted({round(place) for place in places.tolist()}, reverse=True)
    return [Time(math.sqrt(alphabar[t]), math.sqrt(1 - alphabar[t])) for t in chosen]


def ancestral(x_t: Tensor, x0hat: Tensor, t: Time, s: Time, n: Tensor) -> Tensor:
    """Return x_s drawn from p(x_s | x_t, x0hat), n standard normal."""
    return ddim(x_t, x0hat, t, s, 1.0, n)


def ddim(x_t: Tensor, x0hat: Tensor, t: Time, s: Time, eta: float, n: Tensor) -> Tensor:
    """Return x_s by DDIM, n standard normal."""
    c1, c2 = ddim_weights(t, s, eta)
    return s.a * x0hat + c2 * (x_t - t.a * x0hat) / t.s + c1 * n


def ddim_weights(t: Time, s: Time, eta: float) -> tuple[float, float]:
    """Return c_1 and c_2."""
    c1 = eta * math.sqrt(max(0.0, 1 - (t.a / s.a) ** 2)) * s.s / t.s
    return c1, math.sqrt(max(0.0, s.s**2 - c1**2))


def karras(steps: int, high: float, low: float) -> list[float]:
    """Return noise levels from the highest to the lowest, in equal steps of their seventh root (arXiv 2206.00364)."""
    ramp = [i / max(1, steps - 1) for i in range(steps)]
    return [(high ** (1 / 7) + u * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for u in ramp]
