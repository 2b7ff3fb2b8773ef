r"""The target in whitened coordinates, x = centre + C^{1/2} w, in which the Gaussian p(x0 | x_t) is N(0, I).

C^{1/2} is any root with C^{1/2} C^{T/2} = C. Only the measurement then makes some directions of the target stiffer than
others: with the Jacobian J of the operator, B = J C^{1/2} and the curvature W of the negative log-likelihood by the
clean measurement (1 / v for Gaussian noise), the negative log density has the curvature

    M = I + B^T W B,

whose smallest eigenvalue is 1, and which is I but for as many directions as the measurement tells of. So conjugate
gradients need no preconditioner, and a residual r of M w = b tells the error: in the M-norm, which measures it in
posterior standard deviations, |w - w*|_M = |M^{-1/2} r| <= |r|. A residual of norm `accuracy` sqrt(d) is an error of at
most `accuracy` posterior standard deviations, root mean square. Where J is diagonal and C is in the cosine basis, there
are better coordinates (`weighted`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import sqrt

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Target
from daps_kit.covariance import CosineCovariance, LocalCovariance
from daps_kit.errors import ComponentError
from daps_kit.linalg import conjugate_gradients, inner, per_sample

from .weighted import CAUTION, ROUNDING, Weighted

__all__ = ["Linearised", "Whitened", "is_identity", "random_signs"]

PROBED = 0.03
"""Relative residual of what a probe solves for."""


class Whitened:
    """A target in the coordinates w.

    Args:
        target: the target; its density must be known.

    Raises:
        daps_kit.errors.ComponentError: the target's density is not known (prior_score 'exact').
    """

    def __init__(self, target: Target) -> None:
        if not target.has_density:
            raise ComponentError(
                "this kernel needs the density of its target, and with prior_score 'exact' there is none; "
                "use 'gaussian', 'score-t' or 'score-min'"
            )
        self.target = target

    def sqrt(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v."""
        return self.target.covariance.sqrt(v)

    def sqrt_transposed(self, v: Tensor) -> Tensor:
        """Return C^{T/2} v."""
        return self.target.covariance.sqrt_transposed(v)

    def image(self, w: Tensor) -> Tensor:
        """Return x = centre + C^{1/2} w."""
        return self.target.centre + self.sqrt(w)

    def coordinates(self, x: Tensor) -> Tensor:
        """Return w = C^{-1/2} (x - centre)."""
        covariance = self.target.covariance
        return covariance.sqrt_transposed(covariance.precision(x - self.target.centre))

    def log_density_grad(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(w | x_t, y) up to a constant [B] and its gradient by w, at x = image(w)."""
        loss, gradient = self.target.operator.loss_grad(x, self.target.y)
        half = 0.5 / self.target.likelihood_variance
        return -half * loss - inner(w, w) / 2, torch.sub(self.sqrt_transposed(-half * gradient), w)


class Linearised:
    """A target with its operator linearised at x.

    Args:
        space: the target in whitened coordinates.
        x: where, [B, ...].
        weight: W at A(x), a number or [B, ...] like a measurement; it may be given later, before a system is solved.

    Attributes:
        clean: A(x).
    """

    def __init__(self, space: Whitened, x: Tensor, weight: float | Tensor = 1.0) -> None:
        self.space, self.x, self.weight = space, x, weight
        self.clean, self._vjp = space.target.operator.forward_vjp(x)

    def multiply(self, v: Tensor) -> Tensor:
        """Return M v = v + B^T W B v."""
        change = self.space.target.operator.jvp(self.x, self.space.sqrt(v))
        return v + self.pull_back(self.weight * change)

    def pull_back(self, v: Tensor) -> Tensor:
        """Return B^T v for v like a measurement."""
        return self.space.sqrt_transposed(self._vjp(v))

    @cached_property
    def weighted(self) -> Weighted | None:
        """The Gaussian with the precision C^{-1} + J^T W J, of a linear operator with a diagonal J and such a C.

        Nonlinear ones take few, short steps to a mode; longer ones make it a choice of rounding which is found.
        """
        operator, covariance = self.space.target.operator, self.space.target.covariance
        diagonal = operator.elementwise and operator.linear_part is not None
        if not diagonal or not isinstance(covariance, CosineCovariance | LocalCovariance):
            return None
        return Weighted(covariance, self._slope().square() * self.weight)

    def _slope(self) -> Tensor:
        """Return the diagonal of J, of an operator that acts on each entry by itself."""
        return self.space.target.operator.jvp(self.x, torch.ones_like(self.x))

    def solve(self, b: Tensor, *, accuracy: float, max_steps: int) -> tuple[Tensor, Tensor]:
        """Return M^{-1} b and a bound on its error in posterior standard deviations, root mean square, [B].

        Args:
            b: right-hand sides, [B, ...].
            accuracy: the bound to reach.
            max_steps: products with M at most.
        """
        weighted = self.weighted
        if weighted is not None:
            return weighted.solve(b, accuracy=accuracy, max_steps=max_steps)
        error = self.error(b).clamp_min(torch.finfo(b.dtype).tiny)
        tolerance = (accuracy / error).clamp_min(ROUNDING)
        w, residual = conjugate_gradients(self.multiply, b, tolerance=tolerance, max_steps=max_steps)
        return w, residual * error

    def error(self, residual: Tensor) -> Tensor:
        """Return the error that a residual of M w = b tells, in posterior standard deviations, root mean square, [B].

        It is a bound; where there is a `weighted`, it is about one.
        """
        if self.weighted is not None:
            residual = CAUTION * self.weighted.residual(residual)
        return inner(residual, residual).sqrt() / sqrt(residual[0].numel())

    def variances(self, probes: int, max_steps: int) -> Tensor:
        """Return the diagonal of J C^{1/2} M^{-1} C^{1/2} J^T, the posterior variances of the clean measurement.

        What is measured pixel by pixel has them at once, about (`weighted`). Else they are the means of
        u J C^{1/2} M^{-1} C^{1/2} J^T u over vectors u of random signs (Bekas, Kokiopoulou and Saad, Applied Numerical
        Mathematics 57, 2007), which is exact where that matrix is diagonal.

        Args:
            probes: how many.
            max_steps: of conjugate gradients.
        """
        weighted = self.weighted
        if weighted is not None:
            return self._slope().square() * weighted.variances()
        total = torch.zeros_like(self.clean)
        for signs in random_signs(probes, self.clean):
            u = signs.expand_as(self.clean)
            w, _ = conjugate_gradients(
                self.multiply, self.pull_back(u), tolerance=PROBED, max_steps=max_steps
            )
            total = total + u * self.space.target.operator.jvp(self.x, self.space.sqrt(w))
        return total / probes

    def stiffness(self, probe: Tensor, steps: int = 12, scale: float | Tensor = 1.0) -> Tensor:
        """Return the largest eigenvalue of diag(s) M diag(s), [B], from below, by power iteration from the probe.

        Args:
            probe: [B, ...].
            steps: of the iteration.
            scale: s, a number or [B, ...].
        """
        return largest_eigenvalue(lambda v: scale * self.multiply(scale * v), probe, steps)


def random_signs(count: int, like: Tensor) -> Tensor:
    """Return vectors of random signs, always the same, for what one vector tells of a trace or a diagonal.

    Args:
        count: how many.
        like: [B, ...], whose element shape, dtype and device they take.
    """
    draw = torch.Generator().manual_seed(0)
    return 2 * torch.randint(0, 2, (count, *like.shape[1:]), generator=draw).to(like) - 1


def is_identity(operator: Operator, y: Tensor) -> bool:
    """Return whether an operator measures the image itself, by a product for each measurement."""
    if operator.linear_part is None or tuple(y.shape[1:]) != operator.shape:
        return False
    probe = random_signs(1, y).expand_as(y)
    return torch.equal(operator.forward(probe), probe)


def largest_eigenvalue(apply: Callable[[Tensor], Tensor], probe: Tensor, steps: int) -> Tensor:
    """Return the largest eigenvalue of a positive definite map, [B], from below, by power iteration."""
    value = torch.ones(len(probe), dtype=probe.dtype, device=probe.device)
    for _ in range(steps):
        probe = probe / per_sample(inner(probe, probe).sqrt(), probe)
        image = apply(probe)
        value, probe = inner(probe, image), image
    return value
