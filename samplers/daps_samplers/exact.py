r"""Exact draws from p(x0 | x_t, y) of a linear operator with Gaussian noise, where it is a Gaussian.

Draw from the prior's Gaussian and from the noise, and move the draw by what it fails to explain: with
x_s ~ N(centre, C) and eps ~ N(0, v I),

    S z = y - A x_s - eps,    S = A C A^T + v I,    x = x_s + C A^T z

is a draw from N(centre, C) N(y; A x, v I). A constant beside A x is taken from y before. Where C = c I it takes one
product with (A^T A + (v / c) I)^{-1}, which many operators know in closed form; otherwise conjugate gradients for z, in
the space of measurements, with the operator's preconditioner if it has one. They go on for longer than a single draw
needs, since what an early stop leaves is rounding's choice, and so would depend on the batch. A residual r leaves an
error dx = C A^T S^{-1} r, which is, in the norm of the posterior's precision, that is in posterior standard deviations,

    |dx|^2 = (|r|^2 - v r^T S^{-1} r) / v <= |r|^2 / v.

An operator that acts on each entry by itself, as a mask does, has draws in the space of images instead (`weighted`),
and so has a convolution that is not about diagonal in the cosine basis (`convolved`).

Where each element of y has a standard deviation of its own, y and A are scaled by the root of its weight first (see
`daps_kit.noise`), so that one v is that of all.

Sources: Journel and Huijbregts, "Mining Geostatistics" (1978), for conditioning a draw by its misfit; Orieux, Feron and
Giovannelli, "Sampling high-dimensional Gaussian distributions for general linear inverse problems", IEEE Signal
Processing Letters 19 (2012), for conjugate gradients that stop early.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from daps_kit.contracts import (
    Covariance,
    Kernel,
    KernelInfo,
    KernelState,
    LinearOperator,
    Operator,
    RandomStreams,
    Target,
)
from daps_kit.covariance import CosineCovariance, LocalCovariance
from daps_kit.errors import ComponentError
from daps_kit.failures import Failure
from daps_kit.linalg import conjugate_gradients, inner, per_sample
from daps_kit.noise import SampleNoise

from . import convolved
from .weighted import ROUNDING
from .whitened import Linearised, Whitened

__all__ = ["Exact", "applies", "balanced", "poor", "preconditioner"]


def applies(operator: Operator) -> bool:
    """Whether p(x0 | x_t, y) is a Gaussian for this operator: linear but for a constant, with Gaussian noise."""
    return operator.linear_part is not None and operator.noise.gaussian


POOR = 0.3
"""Error of a draw, in posterior standard deviations, from which the user is told."""

LEAST, OPEN = 1e-3, 0.5
"""Of the preconditioner: the least local variance of a measurement, in units of the mean, and b in units of the mean
variance of an entry of the image."""


class Exact(Kernel):
    """Exact draws, independent of where the chain is.

    Args:
        accuracy: of the conjugate gradients: error of a draw in posterior standard deviations, root mean square.
        cg_steps: their steps at most.
    """

    needs_density = True
    advice = "look at the measurement and at the prior's covariance: a linear system has no finite solution"

    def __init__(self, accuracy: float = 0.001, cg_steps: int = 300) -> None:
        self.accuracy, self.cg_steps = accuracy, cg_steps
        self._help = f"take more steps (sampler.kernel.cg_steps, now {cg_steps})"

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> KernelState:
        """Return the state at x.

        Raises:
            daps_kit.errors.ComponentError: the operator is not linear, or its noise is not Gaussian.
        """
        if not applies(target.operator):
            raise ComponentError(
                "kernel 'exact' needs a linear operator of images with Gaussian noise; 'rto' takes any operator, "
                "and 'auto' chooses"
            )
        if not target.has_density:
            raise ComponentError(
                "kernel 'exact' needs the density of its target, and with prior_score 'exact' there is none"
            )
        return KernelState(x)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Draw one sample."""
        operator, covariance = target.operator.linear_part, target.covariance
        assert operator is not None
        centre = target.centre
        v: float | Tensor = target.likelihood_variance
        noise = target.operator.noise
        weight = noise.curvature(target.y, target.y)
        if isinstance(noise, SampleNoise):
            v, weight = noise.each.to(centre) * v, 1.0
        root = weight**0.5
        spread = per_sample(v, target.y)
        x = centre + covariance.sqrt(streams.normal(centre.shape[1:], centre.dtype))
        y = target.y - spread**0.5 / root * streams.normal(target.y.shape[1:], target.y.dtype)
        difference = y - target.operator.forward(x)
        misfit = operator.project(root * difference)
        variance, mapped = covariance.isotropic, isinstance(weight, Tensor)
        if variance is not None and not mapped:
            pull = operator.adjoint(misfit) / root
            # Where an operator's inverse gives up, what follows judges the draw of each sample by itself.
            with suppress(ArithmeticError):
                change = operator.solve_normal(pull, v / weight / variance.to(centre))
                return KernelState(x + change), KernelInfo()

        if operator.elementwise:
            here = Linearised(Whitened(target), x, root**2 / spread)
            b = here.pull_back(root / spread * misfit)
            w, error = here.solve(b, accuracy=self.accuracy, max_steps=self.cg_steps)
            x = x + covariance.sqrt(w)
            return KernelState(x), KernelInfo(error=error, failures=poor(target, error, self._help))

        transfer = operator.transfer()
        if transfer is not None and isinstance(covariance, CosineCovariance | LocalCovariance):
            change, error = convolved.solve(
                operator,
                transfer,
                covariance,
                root**2 / spread,
                difference,
                accuracy=self.accuracy,
                max_steps=self.cg_steps,
            )
            return KernelState(x + change), KernelInfo(error=error, failures=poor(target, error, self._help))

        def apply(z: Tensor) -> Tensor:
            image = operator.forward(covariance.multiply(operator.adjoint(root * z)))
            return operator.project(root * image) + spread * z

        norm = inner(misfit, misfit).sqrt().clamp_min(torch.finfo(misfit.dtype).tiny)
        unit = (v * x[0].numel()) ** 0.5
        z, residual = conjugate_gradients(
            apply,
            misfit,
            precondition=None if mapped else preconditioner(operator, covariance, v),
            tolerance=(self.accuracy * unit / norm).clamp_min(ROUNDING),
            max_steps=self.cg_steps,
        )
        error = residual * norm / unit
        change = covariance.multiply(operator.adjoint(root * z))
        return KernelState(x + change), KernelInfo(error=error, failures=poor(target, error, self._help))


def poor(target: Target, error: Tensor, advice: str) -> tuple[Failure, ...]:
    """Return the samples whose error the user is told."""
    size = error.nan_to_num(0).tolist()
    return tuple(
        Failure(sample, target.level, target.levels, target.sigma, "solver", advice, size[sample])
        for sample in range(len(size))
        if size[sample] > POOR
    )


def preconditioner(
    operator: LinearOperator, covariance: Covariance, variance: float | Tensor
) -> Callable[[Tensor], Tensor] | None:
    """Return an approximate inverse of A C A^T + v I, where one is known.

    Where C = Q E^{1/2} K E^{1/2} Q^T differs from place to place, A E^{1/2} ~ W^{1/2} A with W = A E / A 1; with
    N ~ (A K A^T + v I)^{-1} and b what is open of a measurement where E = 1, for each colour,

        T N T,    T^2 = (1 + v / b) / (W + v / b),

    has the diagonal of the inverse: T = W^{-1/2} where the noise is small, and I where it rules.
    """
    even = covariance.even if isinstance(covariance, LocalCovariance) else covariance
    common = even.common if isinstance(even, CosineCovariance) else even
    inverse = operator.preconditioner(common, variance)
    if inverse is None or not isinstance(covariance, LocalCovariance):
        return inverse
    return balanced(operator, covariance, variance, inverse)


def balanced(
    operator: LinearOperator,
    covariance: LocalCovariance,
    variance: float | Tensor,
    inverse: Callable[[Tensor], Tensor],
) -> Callable[[Tensor], Tensor]:
    """Return T N T, see `preconditioner`, N the inverse."""
    even = covariance.even.common
    local, one = covariance.scale.square(), torch.ones_like(covariance.scale)
    weight, whole = operator.forward(local), operator.forward(one)
    weight = torch.where(whole > LEAST, weight / whole, 1).clamp_min(LEAST)
    ratio = per_sample(variance, local) / (OPEN * even.power.mean((1, 2), keepdim=True))
    t = ((1 + ratio) / (weight + ratio)).sqrt()

    def apply(z: Tensor) -> Tensor:
        scale = t.to(z)
        return even.rotated(inverse(even.rotated(z, lambda r: scale * r)), lambda r: scale * r)

    return apply
