"""The kernel that suits the problem: exact draws where there are any, randomise-then-optimise elsewhere.

Where the operator acts on each entry by itself, draws entry by entry follow: they leave the target invariant, so that
they mend what the linearisation does wrong at the edges of flat places, and harm nothing."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from daps_kit.contracts import (
    Kernel,
    KernelInfo,
    LinearOperator,
    Operator,
    RandomStreams,
    Target,
)

from . import exact
from .pixelwise import Pixelwise, applies
from .rto import RandomiseThenOptimise

__all__ = ["Auto"]


class Auto(Kernel):
    """Takes `exact` for a linear operator with Gaussian noise, else `rto`."""

    needs_density = True

    def __init__(self) -> None:
        self._exact = exact.Exact()
        self._rto = RandomiseThenOptimise()
        self._rto_convex = RandomiseThenOptimise(4, 50)
        self._pixelwise = Pixelwise()

    def choose(self, operator: Operator) -> tuple[Kernel, str]:
        """Return the kernel for an operator, and why, in words."""
        if exact.applies(operator):
            return self._exact, "exact draws (the operator is linear, its noise Gaussian)"
        if isinstance(operator, LinearOperator):
            return self._rto_convex, "randomise-then-optimise (the noise is not Gaussian)"
        return self._rto, "randomise-then-optimise (the operator is not linear)"

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> object:
        """Return the state of the kernel that suits the target."""
        return self.choose(target.operator)[0].init(target, x, streams)

    def step(self, target: Target, state: object, streams: RandomStreams) -> tuple[object, KernelInfo]:
        """Take a step of the kernel that suits the target."""
        return self.choose(target.operator)[0].step(target, state, streams)

    def run(self, target: Target, x: Tensor, streams: RandomStreams) -> tuple[Tensor, KernelInfo]:
        """Take all the steps of a level of the kernel that suits the target, which its info's notes name."""
        kernel, choice = self.choose(target.operator)
        result, info = kernel.run(target, x, streams)
        if kernel is self._rto and not info.failures and applies(target):
            result, info = self._pixelwise.run(target, result, streams)
            choice += ", then draws pixel by pixel"
        return result, replace(info, notes=(*info.notes, f"sampler.kernel auto: {choice}"))
