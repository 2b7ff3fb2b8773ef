r"""States of annealing whose noise is the measurement's own, pattern by pattern.

The states X(s) = x0 + B(s), s = sigma^2, may have any Brownian motion B that is independent of x0, also one that the
noise of the measurement depends on. A linear operator that measures patterns each by itself (`daps_kit.modes`) takes
noise N in its input, of variance v = sigma_y^2 SHARE / |g|^2 in each pattern, for white noise in y:

    y = A x0 + L g N + eps,    eps ~ N(0, (1 - SHARE) sigma_y^2 I),    N = B(v)    in each pattern.

The noise of each pattern in y is that of the state of the level s = v. Above it, y knows more of the pattern than X(s)
does: given B(s), N is B(s) v / s and noise of variance v (1 - v / s). Below, N is B(s) and an increment of which X(s)
says nothing: y has nothing more to say of the pattern but through eps, and the prior alone goes on, from a noisy image
that is y there. So neither is the noise of y counted twice nor does y pull again at each level at what the network has
made of it. Where it does, what the Gaussian p(x0 | x_t) gets wrong is drawn anew at each level.

The domain of N may be larger than the image. B lives on all of it, x0 and X(s) in the part where the image is, and what
lies around is kept. With J placing an image in the domain, and B(s) = J (X(s) - x0) + what lies around,

    y = L g (F E - T F J) x0 + L g (T F (J X(s) + around) + M + r) + eps,    T = min(1, v / s),

M the increments of patterns below their level and r ~ N(0, v (1 - v / s)) of those above: a Gaussian for x0 and r,
which are drawn together, by moving a draw from their prior by what it fails to explain (`exact`). B of the next level
is drawn between its neighbours in time: 0 at 0, N at v, and B(s) at s.

Patterns that are hardly measured have an N of their own. Those that y says nothing more of forget some of their noise
from level to level (`daps`).

SHARE below 1 bounds the condition of the system by about 1 / (1 - SHARE).

Source: Kawar et al., "Denoising diffusion restoration models", NeurIPS 2022, arXiv 2201.11793, for diffusion in the
singular vectors of an operator with y as a state of each.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from daps_kit.contracts import KernelInfo, LinearOperator, RandomStreams, Target
from daps_kit.modes import Modes

from .exact import poor
from .system import System

__all__ = ["Coupled"]

SHARE = 0.5
"""Of the variance of the measurement's noise, what is noise of the states."""

OWN = 100.0
"""Noise level of a pattern above which its noise in y is its own."""

ACCURACY, STEPS = 3e-4, 400
"""Error of a draw in posterior standard deviations, root mean square, and steps of conjugate gradients at most. What is
left of the error rounding decides, and with it the batch, also at high noise levels: the network hands it on."""

NOTE = (
    "the operator measures patterns each by itself: the noise of the measurement is that of the noise levels"
)
HELP = "the measurement asks for more of the image than single precision can tell; look at the operator and its noise"


class Coupled:
    """States whose noise is the measurement's.

    Args:
        operator: linear, with `modes`.
        modes: its patterns.
        y: the measurement, [B, ...].
        noise: the variance of its noise.
        streams: of random numbers.
        forgetting: the power of the ratio of two noise levels that is the correlation of the noise which forgets.
    """

    def __init__(
        self,
        operator: LinearOperator,
        modes: Modes,
        y: Tensor,
        noise: float,
        streams: RandomStreams,
        forgetting: float,
    ) -> None:
        self.operator, self.modes, self.y, self.noise = operator, modes, y, noise
        self.streams, self.forgetting = streams, forgetting
        self._variance = SHARE * noise / modes.gain.abs().square()
        self._coupled = self._variance < OWN**2
        # Of the noise level at hand: B and N, and what is known of B without x0.
        self._b = self._n = self._known = torch.zeros(())

    def begin(self, target: Target, sigma: float) -> Tensor:
        """Return the first state, [B, ...], of a noise level.

        Args:
            target: what the prior of all images and y say of x0, at a high noise level.
            sigma: the noise level.
        """
        none = self.modes.coordinates(torch.zeros(len(self.y), *self.modes.shape).to(self.y))
        self._known, self._b, self._n = none, none, none
        x0, _ = self._drawn(target, inf)
        return self._state(x0, sigma**2, inf)

    def draw(self, target: Target) -> tuple[Tensor, KernelInfo]:
        """Draw x0 given the state and y, the target's Gaussian being p(x0 | x_t)."""
        x0, error = self._drawn(target, target.sigma**2)
        return x0, KernelInfo(error=error, failures=poor(target, error, HELP), notes=(NOTE,))

    def following(self, x0y: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """Draw the state of the next level given x0, [B, ...]."""
        return self._state(x0y, sigma_next**2, sigma**2)

    def _drawn(self, target: Target, s: float) -> tuple[Tensor, Tensor]:
        """Draw x0, and with it B and N, given the state of a level s = sigma^2; return it and its error, [B]."""
        modes, streams = self.modes, self.streams
        covariance, v = target.covariance, self._variance
        share = torch.where(self._coupled, (v / s).clamp_max(1), 0)
        below = self._coupled & (v >= s)
        spare = torch.where(below, 0, v * (1 - share))
        root, gain, rest = spare.sqrt(), modes.gain, (1 - SHARE) * self.noise
        x0 = target.centre + covariance.sqrt(streams.normal(target.centre.shape[1:], target.centre.dtype))
        r = root * self._white()
        increments = torch.where(below, self._n - self._b, 0)
        told = share * self._known + increments
        clean = modes.measured(gain * (modes.seen(x0, share) + told + r))
        misfit = self.y - clean - rest**0.5 * streams.normal(self.y.shape[1:], self.y.dtype)

        system = System(self.operator, modes, covariance, share, spare, rest)
        x, w, error = system.solve(misfit, accuracy=ACCURACY, max_steps=STEPS)
        x0 = x0 + x
        self._b = self._known - modes.coordinates(modes.placed(x0))
        self._n = share * self._b + increments + r + w
        return x0, error

    def _state(self, x0: Tensor, s: float, before: float) -> Tensor:
        """Draw the state of a level s given x0 and B of the level before, [B, ...]."""
        modes, fresh = self.modes, self._white()
        v = torch.where(self._coupled, self._variance, inf)
        # Above v: between N at v and B of the level before, if that is not infinitely far.
        ratio = (s - v) / (before - v)
        above = self._n + ratio * (self._b - self._n) + ((s - v) * (1 - ratio)).clamp_min(0).sqrt() * fresh
        # Below: on the line from 0 to N and beside it, where some of what was so at the level before is kept.
        spread, was = s * (1 - s / v), before * (1 - before / v)
        alike = (
            torch.where((v > before) & (before < inf), (s / before) ** 2 * was / spread, 0) ** self.forgetting
        )
        beside = torch.where(alike > 0, (alike * spread / was).sqrt() * (self._b - before / v * self._n), 0)
        below = s / v * self._n + beside + (spread * (1 - alike)).clamp_min(0).sqrt() * fresh
        b = torch.where(v < s, above, below)
        whole = modes.domain(b)
        self._b, self._known = b, b + modes.coordinates(modes.placed(x0))
        return x0 + modes.taken(whole)

    def _white(self) -> Tensor:
        return self.modes.coordinates(self.streams.normal(self.modes.shape, self.y.dtype))
