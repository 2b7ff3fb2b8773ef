r"""The Metropolis-adjusted Langevin algorithm in whitened coordinates, x = centre + C^{1/2} w:

    w' = w + (h^2 / 2) grad log p(w) + h eps,   eps ~ N(0, I),

taken or refused so that the target is exactly invariant. It is Hamiltonian Monte Carlo with one leapfrog step.

Source: Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations",
Bernoulli 2 (1996).
"""

from __future__ import annotations

from .hmc import HMC

__all__ = ["MALA"]


class MALA(HMC):
    """The Metropolis-adjusted Langevin algorithm.

    Args:
        steps: steps at each level.
        acceptance: the target acceptance, in (0, 1).
        step_size: h, fixed; None, the default, adapts it.
    """

    def __init__(
        self, steps: int = 100, acceptance: float = 0.574, *, step_size: float | None = None
    ) -> None:
        super().__init__(steps, 1, acceptance, step_size=step_size)
