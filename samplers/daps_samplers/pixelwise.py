r"""Draws entry by entry, for operators that act on each entry by itself: clips, saturation, gammas, quantisers.

Where such an operator is flat, a gradient sees nothing, and where the flat ends, a linearisation is wrong. But the
likelihood is a product of functions L_i of single numbers. With C = R + D, D = diag(d) the independent part of the
Gaussian p(x0 | x_t) (`Covariance.independent`),

    x = u + D^{1/2} z,    u ~ N(centre, R),    z ~ N(0, I),

and a step draws in turn

    u | x       a Gaussian, N(x - D C^{-1} (x - centre), D - D C^{-1} D),
    x | u, y    independent entries, proportional to N(x_i; u_i, d_i) L_i(x_i),

which leaves p(x0 | x_t, y) invariant. Where the operator is linear but for its kinks and the noise is Gaussian, an
entry is drawn by the inverse of its distribution function (`pieces`), which moves by rounding where u does.

Elsewhere it is drawn by Metropolis' rule from a mixture that does not depend on where it is: what u says, N(u_i, d_i),
and what u says together with the peak of the likelihood, the Gaussian proportional to
N(x_i; u_i, d_i) N(x_i; a_i, s_i^2). The first is right where y is flat, the second where it is not, so that entries go
from one to the other, however far apart they are. With the weights 1 - w and w of the two, a proposal x' in the place
of x is taken with probability min(1, r(x') / r(x)),

    r(x) = L(x) / (1 - w + w N(x; a, s^2) / N(a; u, d + s^2)).

a and s^2 / 4 are mean and variance of the likelihood sharpened, L^4, which sees its highest part alone, on a grid that
is moved and scaled to what it found. Which side of the rule a proposal is on is now and then rounding's choice, so that
such a sample depends on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, KernelState, Operator, RandomStreams, Target
from daps_kit.errors import ComponentError
from daps_kit.linalg import per_sample

from . import pieces

__all__ = ["Pixelwise", "applies"]

SHARPENED = 4
"""The power of the likelihood whose moments are its peak."""

REACH, NODES, FINER = 1.5, 33, (13, 13, 13)
"""The grid of the likelihood: its ends, its points, and those of the finer ones around what it found."""

PROPOSALS = 3
"""Proposals for each entry in a step."""

LEAST = 0.1
"""Each part of the mixture has at least this weight."""


def applies(target: Target) -> bool:
    """Whether the target's likelihood is a product over entries, and an independent part of its Gaussian is known."""
    return target.has_density and target.operator.elementwise and target.covariance.independent() is not None


class Pixelwise(Kernel):
    """Draws entry by entry.

    Args:
        steps: steps at each level.
    """

    needs_density = True
    advice = "look at the operator and at the measurement"

    def __init__(self, steps: int = 2) -> None:
        self.steps = steps
        self._found: tuple[Operator, Tensor, float, tuple[Tensor, Tensor, Tensor]] | None = None

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> KernelState:
        """Return the state at x.

        Raises:
            daps_kit.errors.ComponentError: the operator does not act on each entry by itself, or nothing is known of
                the independent part of the covariance.
        """
        if not applies(target):
            raise ComponentError(
                "kernel 'pixelwise' needs an operator that acts on each entry by itself, and a covariance whose "
                "independent part is known; 'rto' takes any operator, and 'auto' chooses"
            )
        return KernelState(x)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Take one step; draws normal numbers, then what the draw of an entry takes."""
        x, split = state.x, target.covariance.independent()
        assert split is not None
        d, draw = split[0].to(x), split[1]
        d = per_sample(d, x) if d.ndim < 2 else d
        u = x - d * target.covariance.precision(x - target.centre)
        u = u + draw(lambda: streams.normal(x.shape[1:], x.dtype))
        if target.operator.kinks and target.operator.noise.gaussian:
            return self._exact(target, x, u, d, streams), KernelInfo()
        x, acceptance = self._proposed(target, x, u, d, streams)
        return KernelState(x), KernelInfo(acceptance=acceptance)

    def _exact(self, target: Target, x: Tensor, u: Tensor, d: Tensor, streams: RandomStreams) -> KernelState:
        """Draw a normal number an entry, and x from it; one stays where numbers are not finite."""
        operator, y = target.operator, target.y
        r = target.likelihood_variance / operator.noise.curvature(y, y)
        normal = streams.normal(x.shape[1:], x.dtype)
        drawn = pieces.draw(operator.forward, operator.kinks, y, r, u, d, normal)
        return KernelState(torch.where(drawn.isfinite(), drawn.to(x), x))

    def _proposed(
        self, target: Target, x: Tensor, u: Tensor, d: Tensor, streams: RandomStreams
    ) -> tuple[Tensor, Tensor]:
        """Draw for each proposal uniform, normal and uniform numbers, an entry; return x and the acceptance, [B]."""
        (a, s, height), form, dtype = self._likelihood(target), x.shape[1:], x.dtype
        log_likelihood = _log_likelihood(target)
        together = _log_normal(a - u, d + s**2)
        heavier = height + s.log() + log(2 * pi) / 2 + together - log_likelihood(u)
        w = heavier.sigmoid().clamp(LEAST, 1 - LEAST)
        variance = d * s**2 / (d + s**2)
        middle = variance * (u / d + a / s**2)

        def log_ratio(x: Tensor) -> Tensor:
            peaked = _log_normal(x - a, s**2) - together
            return log_likelihood(x) - torch.logaddexp((1 - w).log(), w.log() + peaked)

        old, acceptance = log_ratio(x), torch.zeros(len(x), dtype=dtype, device=x.device)
        for _ in range(PROPOSALS):
            peaked = streams.uniform(form, dtype) < w
            n = streams.normal(form, dtype)
            proposal = torch.where(peaked, middle + variance.sqrt() * n, u + d.sqrt() * n)
            new = log_ratio(proposal)
            accepted = streams.uniform(form, dtype).log() < new - old  # false where a ratio is NaN
            x, old = torch.where(accepted, proposal, x), torch.where(accepted, new, old)
            acceptance = acceptance + accepted.to(dtype).flatten(1).mean(1) / PROPOSALS
        return x, acceptance

    def _likelihood(self, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Return peak a, width s and height log L(a): those of the level before where nothing has changed."""
        operator, y, variance = target.operator, target.y, target.likelihood_variance
        found = self._found
        if found is None or found[0] is not operator or found[1] is not y or found[2] != variance:
            log_likelihood = _log_likelihood(target)
            peak, width = _peaks(log_likelihood, y)
            self._found = found = (operator, y, variance, (peak, width, log_likelihood(peak)))
        return found[3]


def _log_likelihood(target: Target) -> Callable[[Tensor], Tensor]:
    """Return x -> log L_i(x_i), up to constants, [B, ...]."""
    operator, y, half = target.operator, target.y, 0.5 / target.likelihood_variance
    return lambda x: -half * operator.noise.misfit(operator.forward(x), y)


def _log_normal(difference: Tensor, variance: Tensor) -> Tensor:
    """Return the log density of N(0, variance)."""
    return -(difference.square() / variance + variance.log() + log(2 * pi)) / 2


def _peaks(log_likelihood: Callable[[Tensor], Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the sharpened likelihoods, [B, ...]."""
    at, reach = torch.zeros_like(like), torch.full_like(like, REACH)
    width = reach
    for nodes in (NODES, *FINER):
        spacing = 2 * reach / (nodes - 1)
        top = torch.full_like(at, -torch.inf)
        zero, one, two = (torch.zeros_like(at) for _ in range(3))
        for t in torch.linspace(-1, 1, nodes).tolist():
            value = SHARPENED * log_likelihood(at + t * reach)
            new = torch.maximum(top, value)
            kept, p = (top - new).exp(), (value - new).exp()
            zero, one, two, top = kept * zero + p, kept * one + t * p, kept * two + t * t * p, new
        shift = one / zero
        width = torch.maximum((two / zero - shift.square()).clamp_min(0).sqrt() * reach, spacing / 2)
        at = at + shift * reach
        reach = torch.minimum(3 * width, reach)
    return at, width * SHARPENED**0.5
