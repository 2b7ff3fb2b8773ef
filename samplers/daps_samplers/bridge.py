r"""States of annealing through a measurement that is an image and noise, each element with a variance of its own.

They are values X(s) = x0 + B(s), s = sigma^2, of a Brownian motion B in each element. Where y = x0 + v^{1/2} n there, y
is X(v): for s > v, X(s) is y and fresh noise, and for s < v it says of x0 all that y does. So

    p(x0 | X(s), y)  ~  p(x0 | X(s)) exp(-W (x0 - a)^2 / 2),    W = (1 / v - 1 / s)_+,    W a = y / v - X(s) / s,

in which nothing of y is counted twice, and levels below the noise ask it nothing: there is ancestral sampling. Given x0
drawn so, the next state is drawn given its neighbours in time, of x0 at 0, y at v and X(s) at s. Between (l, a) and
(u, b), with r = (s' - l) / (u - l),

    X(s') ~ N(a + r (b - a), (s' - l) (1 - r)).

Annealing from a high level instead asks at each level how x0 agrees with y, of a Gaussian of the average picture there:
what that gets wrong stays in x_t, and the network takes it for the picture.

Where y is measured in another orthonormal basis, y = U x0 + v^{1/2} n, elements are those of U x0, in which a Brownian
motion is one as well; what is not observed there has a v that is large.

The first s is in the midst of the v, a little above. Elements of less noise know more than X(s), which is in W; those
of more begin from x0 as the prior of all images and y have it. Noise that is not Gaussian gets Gaussian sites first, of
centre y and variance v, which match the moments of each element's posterior under the prior of all images (`rto`).

Source: Karatzas and Shreve, "Brownian Motion and Stochastic Calculus" (1991), section 5.6, for the bridge.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor

from daps_kit.contracts import KernelInfo, LinearOperator, Operator, RandomStreams, Target
from daps_kit.noise import Site

from .rto import RandomiseThenOptimise
from .whitened import Linearised, Whitened

__all__ = ["Bridge", "begins"]

ABOVE = 1.3
"""The first noise level, in units of the root mean square of the noise."""

KNOWN = 2.0
"""How many times the first noise level an element's noise may be for its measurement to count,"""
SHARE = 0.25
"""and the largest share of elements whose measurement does not."""

LEAST = 1e-4
"""The least weight of an element: images have a variance of about 1, so that it says nothing."""

ACCURACY, STEPS = 1e-3, 100
"""Error of a draw in posterior standard deviations, root mean square, and steps of conjugate gradients at most."""

NOTE = "the measurement is an image and noise, more in some elements than in others: levels lead through it"


def begins(operator: Operator, y: Tensor, within: tuple[float, float]) -> float | None:
    """Return the first noise level for a y that is an image and noise; None where the prior does not know it."""
    std = operator.noise.std(y)
    observed = operator.project(torch.ones_like(y)) > 0
    sigma = ABOVE * float(std[observed].square().nanmean().sqrt())
    return sigma if isfinite(sigma) and within[0] <= sigma <= within[1] else None


@dataclass(frozen=True)
class Bridge:
    """States of annealing through a measurement.

    Attributes:
        sigma: the first noise level.
        y: the measurement, or the centres of its sites, [B, ...].
        variance: v, [B, ...].
        x: a draw of x0 as the prior of all images and y have it, [B, ...].
        basis: the operator, where it is U; None where y is measured in the basis of the image.
    """

    sigma: float
    y: Tensor
    variance: Tensor
    x: Tensor
    basis: LinearOperator | None = None

    @classmethod
    def through(cls, target: Target, sigma: float, streams: RandomStreams) -> Bridge:
        """Return it.

        Args:
            target: what the prior of all images and y say of x0, at a high noise level.
            sigma: the first noise level.
            streams: of two normal numbers an element.
        """
        x, site = RandomiseThenOptimise(4, STEPS).sites(target, target.centre)
        clean = target.operator.forward(x)
        variance = 1 / torch.as_tensor(site.weight).to(x).expand_as(x).clamp_min(LEAST)
        drawn, _ = _drawn(target, site, streams)
        basis = target.operator.linear_part if target.operator.orthonormal else None
        return cls(sigma, clean - variance * site.gradient(clean), variance, drawn, basis)

    @property
    def serves(self) -> bool:
        """Whether most elements of each measurement are known about as well as the first state.

        What is not observed in another basis is of no account: images have little of it.
        """
        unknown = self.variance > (KNOWN * self.sigma) ** 2
        if self.basis is not None:
            unknown = unknown & (self.basis.project(torch.ones_like(self.y)) > 0)
        return bool((unknown.double().flatten(1).mean(1) <= SHARE).all())

    def first(self, streams: RandomStreams) -> Tensor:
        """Draw the first state, [B, ...]."""
        return self.following(torch.zeros_like(self.y), self.x, inf, self.sigma, streams)

    def following(
        self, x_t: Tensor, x0y: Tensor, sigma: float, sigma_next: float, streams: RandomStreams
    ) -> Tensor:
        """Draw the state of a noise level given x0 and the state of the level before, [B, ...].

        Args:
            x_t, x0y: of the level before.
            sigma, sigma_next: the two noise levels; the first is infinite where there is no level before.
            streams: of a normal number an element.
        """
        x_t, x0y = self._measured(x_t), self._measured(x0y)
        s, following, v = sigma**2, sigma_next**2, self.variance
        between = following > v
        early = torch.where(between, v, 0.0)
        late = torch.where(between, s, v.clamp_max(s))
        a = torch.where(between, self.y, x0y)
        b = torch.where(between | (v >= s), x_t, self.y)
        share = (following - early) / (late - early)
        spread = ((following - early) * (1 - share)).clamp_min(0).sqrt()
        state = a + share * (b - a) + spread * streams.normal(x0y.shape[1:], x0y.dtype)
        return state if self.basis is None else self.basis.adjoint(state)

    def _measured(self, x: Tensor) -> Tensor:
        return x if self.basis is None else self.basis.forward(x)

    def remaining(self, x_t: Tensor, sigma: float) -> Site:
        """Return what y says of x0 beyond x_t."""
        x_t, known = self._measured(x_t), self.variance < sigma**2
        weight = torch.where(known, 1 / self.variance - 1 / sigma**2, 0.0)
        slope = torch.where(known, (x_t - self.y) / self.variance, 0.0)
        return Site(x_t, slope, weight)

    def draw(self, target: Target, x_t: Tensor, streams: RandomStreams) -> tuple[Tensor, KernelInfo]:
        """Draw x0 given x_t and y, the target's Gaussian being p(x0 | x_t)."""
        drawn, error = _drawn(target, self.remaining(x_t, target.sigma), streams)
        return drawn, KernelInfo(error=error, notes=(NOTE,))

    def mean(self, target: Target, x_t: Tensor) -> Tensor:
        """Return E[x0 | x_t, y]."""
        return _drawn(target, self.remaining(x_t, target.sigma), None)[0]


def _drawn(target: Target, site: Site, streams: RandomStreams | None) -> tuple[Tensor, Tensor]:
    """Return a draw from the target with a site for its likelihood, or without streams its mean, and its error, [B]."""
    centre = target.centre
    here = Linearised(Whitened(target), centre, site.weight)
    b = torch.zeros_like(centre)
    if streams is not None:
        b, site = streams.normal(centre.shape[1:], centre.dtype), site.perturbed(streams)
    b = b - here.pull_back(site.gradient(here.clean))
    w, error = here.solve(b, accuracy=ACCURACY, max_steps=STEPS)
    return here.space.image(w), error
