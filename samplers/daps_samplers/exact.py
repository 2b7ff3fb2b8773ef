r"""Exact draws from p(x0 | x_t, y) of a linear operator with Gaussian noise, where it is a Gaussian.

Perturb and optimise: with w_s ~ N(0, I), eps ~ N(0, v I) and B = A C^{1/2},

    (I + B^T B / v) dw = B^T (y - A centre - B w_s - eps) / v,      x = centre + C^{1/2} (w_s + dw)

is a draw from N(centre, C) N(y; A x, v I). Where C = c I it takes one product with (A^T A + (v / c) I)^{-1}, which many
operators know in closed form; otherwise conjugate gradients, whose residual bounds the error (see `whitened`).

Source: Orieux, Feron and Giovannelli, "Sampling high-dimensional Gaussian distributions for general linear inverse
problems", IEEE Signal Processing Letters 19 (2012).
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from daps_kit.contracts import (
    GaussianNoise,
    Kernel,
    KernelInfo,
    KernelState,
    LinearOperator,
    Operator,
    RandomStreams,
    Target,
)
from daps_kit.errors import ComponentError

from .whitened import Linearised, Whitened

__all__ = ["Exact", "applies"]


def applies(operator: Operator) -> bool:
    """Whether p(x0 | x_t, y) is a Gaussian for this operator: linear, with Gaussian noise."""
    return isinstance(operator, LinearOperator) and isinstance(operator.noise, GaussianNoise)


POOR = 0.3
"""Error of a draw, in posterior standard deviations, from which the user is told."""


class Exact(Kernel):
    """Exact draws, independent of where the chain is.

    Args:
        accuracy: of the conjugate gradients: error of a draw in posterior standard deviations, root mean square.
        cg_steps: their steps at most.
        tau: standard deviation of the likelihood; None is the noise model's own.
    """

    needs_density = True
    advice = "look at the measurement and at the prior's covariance: a linear system has no finite solution"

    def __init__(self, accuracy: float = 0.02, cg_steps: int = 300, *, tau: float | None = None) -> None:
        self.accuracy, self.cg_steps, self.tau = accuracy, cg_steps, tau

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
        return KernelState(x)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Draw one sample; its info's `residual` bounds the error of the draw, [B]."""
        operator, v, centre = target.operator, target.likelihood_variance, target.centre
        assert isinstance(operator, LinearOperator)
        space = Whitened(target)
        w = streams.normal(centre.shape[1:], centre.dtype)
        y = target.y - sqrt(v) * streams.normal(target.y.shape[1:], target.y.dtype)
        here = Linearised(space, space.image(w), 1 / v)
        difference = y - here.clean
        variance = target.covariance.isotropic
        if variance is not None:
            dx = operator.solve_normal(operator.adjoint(difference), v / variance.to(centre))
            return KernelState(here.x + dx), KernelInfo()
        dw, error = here.solve(
            here.pull_back(difference / v), accuracy=self.accuracy, max_steps=self.cg_steps
        )
        extra: dict[str, object] = {"residual": error}
        if bool((error > POOR).any()):
            extra["messages"] = (
                f"conjugate gradients stopped after {self.cg_steps} steps with draws up to "
                f"{float(error.nan_to_num(0).max()):.2g} posterior standard deviations off; sampler.kernel.cg_steps",
            )
        return KernelState(here.x + space.scale(dw)), KernelInfo(extra=extra)
