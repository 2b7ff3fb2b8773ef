r"""The density of a misfit whose covariance is known by its eigenvalues, and known well or on average only.

A misfit r has the covariance S = M + v I, M with eigenvalues lambda_i; on each fall e_i of |r|^2, n_i of the numbers:

    log N(r; 0, S) = -1/2 sum_i [e_i / (lambda_i + v) + n_i log(lambda_i + v)] + constant.

Where M is a mean over images, the image at hand is harder or easier than the mean: its own eigenvalues are
kappa(lambda_i) lambda_i. Were kappa taken for 1, all that is amiss with it would be booked on v. So it is an unknown of
its own, log kappa = sum_j c_j h_j(log lambda), h_j triangles on knots that are factors of `OCTAVES` apart, with the
prior

    c_j = a + b_j,    a ~ N(0, COMMON^2),    b_j ~ N(0, OWN^2) independent of each other,

and is integrated out for each v by Laplace's method: with c* the mode, L its log density and H the Fisher information
there, L - 1/2 log det H. What is white in r is v, above all where lambda is small; how much v is uncertain by what the
smallest eigenvalues may be is in the answer.

Source: Tierney and Kadane, "Accurate approximations for posterior moments and marginal densities", JASA 81 (1986).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Spectrum"]

COMMON, OWN = 1.5, 0.5
"""Standard deviations of log kappa: of all eigenvalues together, and of each knot by itself."""

SPACING = math.log(4.0)
"""Between the knots."""

LEAST = 1e-9
"""Eigenvalues, in units of the largest, below which they are not told apart."""

CLASSES = 128
"""Of eigenvalues that are taken for one, where they are uncertain anyway."""

ROUNDS, SETTLED = 12, 0.05
"""Of Fisher scoring for the mode, at most; and the last step, whose square is what is left."""


class Spectrum:
    """Eigenvalues of M, with what falls on each of |r|^2 and of the number of measured numbers.

    Args:
        values: the eigenvalues, not negative, [k].
        energy: of r, [k].
        count: [k].
        average: whether M is a mean over images, that of the image at hand unknown.
        groups: numbers from 0 of eigenvalues that have one kappa, [k], in the place of knots.
    """

    def __init__(
        self,
        values: Tensor,
        energy: Tensor,
        count: Tensor,
        *,
        average: bool = False,
        groups: Tensor | None = None,
    ) -> None:
        self.values, self.energy, self.count = (t.double() for t in (values.clamp_min(0), energy, count))
        self.average = average
        if not average:
            return
        if groups is None:
            self._classify()
            self._hats = _knots(self.values)
        else:
            self._hats = functional.one_hot(groups).double()
        knots = self._hats.shape[1]
        spread = OWN**2 * torch.eye(knots, dtype=torch.float64, device=values.device) + COMMON**2
        self._precision = torch.linalg.inv(spread)

    def _classify(self) -> None:
        """Take eigenvalues for one that are nearly the same."""
        logs = self.values.clamp_min(max(LEAST * float(self.values.max()), 1e-30)).log()
        low, high = float(logs.min()), float(logs.max())
        place = ((logs - low) / max(high - low, 1e-9) * (CLASSES - 1)).round().long()
        energy, count, share, sums = (
            torch.zeros(CLASSES, dtype=torch.float64, device=logs.device) for _ in range(4)
        )
        weight = self.count + 1e-9 * self.energy + 1e-12
        for total, each in (
            (energy, self.energy),
            (count, self.count),
            (share, weight),
            (sums, weight * logs),
        ):
            total.index_add_(0, place, each)
        told = share > 0
        self._class = (told.cumsum(0) - 1)[place]
        self.values = (sums[told] / share[told]).exp()
        self.energy, self.count = energy[told], count[told]

    def log(self, v: Tensor) -> Tensor:
        """Return log N(r; 0, M + v I), up to a constant, for variances v [G]; [G]."""
        if not self.average:
            return self.exact(v)
        c, precision, prior = self._mode(v)
        total = self.values * (c @ self._hats.T).exp() + v.to(self.values)[:, None]
        return self._density(total) + prior - 0.5 * torch.logdet(precision)

    def factors(self, v: float) -> tuple[Tensor, float]:
        """Return kappa of each eigenvalue where it is most likely, [k], and what log N(r; 0, S) with it lacks to `log`.

        Not for groups.
        """
        c, precision, prior = self._mode(torch.tensor([v], dtype=torch.float64))
        return self._kappa(c[0]), float(prior - 0.5 * torch.logdet(precision))

    @property
    def free(self) -> int:
        """How many numbers tell kappa."""
        return self._hats.shape[1]

    def drawn(self, v: float, normal: Tensor) -> Tensor:
        """Return kappa of each eigenvalue, [k], drawn given a variance from N(c*, H^{-1}) by normal numbers, [J].

        Not for groups.
        """
        c, precision, _ = self._mode(torch.tensor([v], dtype=torch.float64))
        root = torch.linalg.cholesky(precision[0]).T
        apart = torch.linalg.solve_triangular(root, normal.to(c)[:, None], upper=True)
        return self._kappa(c[0] + apart[:, 0])

    def _kappa(self, c: Tensor) -> Tensor:
        return (self._hats @ c).exp()[self._class]

    def _mode(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return c* for variances v [G], [G, J], H there, [G, J, J], and the logarithm of the prior there, [G]."""
        v = v.to(self.values)[:, None]
        hats, precision = self._hats, self._precision
        pairs = (hats[:, :, None] * hats[:, None, :]).flatten(1)
        c = v.new_zeros(len(v), hats.shape[1])
        for _ in range(ROUNDS):
            own = self.values * (c @ hats.T).exp()
            total = own + v
            share = own / total
            slope = 0.5 * ((self.energy / total - self.count) * share) @ hats - c @ precision
            fisher = (0.5 * (self.count * share.square()) @ pairs).reshape(len(v), *precision.shape)
            step = torch.linalg.solve(fisher + precision, slope)
            c = c + step.clamp(-1, 1)
            if float(step.abs().max()) < SETTLED:
                break
        return c, fisher + precision, -0.5 * ((c @ precision) * c).sum(1)

    def exact(self, v: Tensor) -> Tensor:
        """Return the same with M as it is."""
        return self._density(self.values + v.to(self.values)[:, None])

    def _density(self, total: Tensor) -> Tensor:
        return -0.5 * (self.energy / total + self.count * total.log()).sum(-1)


def _knots(values: Tensor) -> Tensor:
    """Return h_j(log lambda), [k, J]."""
    logs = values.log()
    low, high = float(logs.min()), float(logs.max())
    count = max(2, math.ceil((high - low) / SPACING) + 1)
    knots = torch.linspace(low, max(high, low + SPACING), count, dtype=torch.float64, device=logs.device)
    hats: Tensor = (1 - (logs[:, None] - knots).abs() / (knots[1] - knots[0])).clamp_min(0)
    return hats
