r"""Randomise-then-optimise: a sample is the minimiser of a randomly perturbed objective.

In whitened coordinates x = centre + C^{1/2} w, with xi ~ N(0, I) and a perturbed likelihood f,

    w = argmin |w - xi|^2 / 2 + f(A(centre + C^{1/2} w)),      for Gaussian noise f(a) = |a - y - eps|^2 / (2 v),

by Gauss-Newton steps (I + B^T W B) dw = -(w - xi) - B^T f' with conjugate gradients, each halved until the objective
falls. For a linear operator and Gaussian noise one step is an exact draw; for a nonlinear one the sample's density is
the target's up to the determinant that the linearisation leaves out.

Noise that is not Gaussian gets Gaussian sites that match the moments of each element's posterior (`daps_kit.noise`).
What all else says of an element of the clean measurement is the Gaussian posterior without its site: from the mean a
and the variance V of the element with the sites as they are, of weight W and gradient g at a,

    c = V / (1 - W V),    m = a + c g.

V is the diagonal of B (I + B^T W B)^{-1} B^T, or about that; as what all else says only adds to what the prior says,
c is at most the diagonal of B B^T. The first sites are the likelihood's own at the mode, or at y where the mode is not
reached; they are replaced SWEEPS times. Mean and variance are then right where elements are independent, whatever the
noise.

Where an operator is flat though y excludes it, its continuation stands in for it (`Operator.continued`), as long as the
noise is Gaussian: others allow for outliers, and exclude nothing.

Few steps are the default: at a high noise level the next one undoes what is found anyway, and a nonconvex problem that
is solved to the end there is more often caught in a wrong mode.

Source: Bardsley, Solonen, Haario and Laine, "Randomize-then-optimize", SIAM J. Sci. Comput. 36 (2014);
Minka, "Expectation propagation for approximate Bayesian inference", UAI 2001, for the sites.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, KernelState, RandomStreams, Target
from daps_kit.linalg import inner, per_sample
from daps_kit.noise import Likelihood, Site

from .whitened import Linearised, Whitened

__all__ = ["RandomiseThenOptimise"]

HALVINGS = 6
SLACK = 1e-5
"""How much an objective may seem to rise, relative to itself: single precision says no more."""

SWEEPS = 2
PROBES = 2
"""How often sites are matched, and random vectors for the variances that this takes."""

ROUNDS = 2
"""Grids in turn of a site's moments."""

CAUTION = 2.0
"""How much larger than the prior's the variance of an element without its site may be, as both are estimates."""

FAR = 3.0
"""How much less likely than at best a measurement has to be, in its logarithm, for an element to have gone astray."""


class RandomiseThenOptimise(Kernel):
    """Randomise-then-optimise; one step of the kernel is one sample.

    Args:
        newton_steps: Gauss-Newton steps at most, at least 1.
        cg_steps: steps of conjugate gradients in each at most.
        accuracy: where the gradient of the objective bounds the distance to the minimiser by this many posterior
            standard deviations (root mean square), a sample is done.
    """

    needs_density = True
    advice = "look at the operator and at the measurement: the objective is NaN where it starts"

    def __init__(self, newton_steps: int = 2, cg_steps: int = 5, accuracy: float = 0.001) -> None:
        self.newton_steps, self.cg_steps, self.accuracy = newton_steps, cg_steps, accuracy

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> KernelState:
        """Return the start of the minimisation."""
        return KernelState(x)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Draw one sample, minimising from the state's x.

        Raises:
            daps_kit.errors.ComponentError: the target has no density.
        """
        if target.operator.noise.gaussian:
            target = copy.copy(target)
            target.operator = target.operator.continued(target.y)
        space = Whitened(target)
        w = space.coordinates(state.x)
        xi = streams.normal(w.shape[1:], w.dtype)
        w, site = self._sites(space, w)
        w, error = self._minimise(space, xi, site.perturbed(streams), w)
        return KernelState(space.image(w)), KernelInfo(error=error)

    def sites(self, target: Target, x: Tensor) -> tuple[Tensor, Site]:
        """Return the mean with Gaussian sites in the place of the likelihood, and the sites; from x.

        Where the noise is Gaussian the site is the likelihood, and x is left as it is.
        """
        space = Whitened(target)
        w, site = self._sites(space, space.coordinates(x))
        return space.image(w), site

    def _sites(self, space: Whitened, w: Tensor) -> tuple[Tensor, Site]:
        """Return the mean with Gaussian sites, and the sites, from w."""
        target = space.target
        likelihood = target.operator.noise.likelihood(target.y, target.likelihood_variance)
        if target.operator.noise.gaussian:
            return w, likelihood.tangent(target.y)
        w, _ = self._minimise(space, torch.zeros_like(w), likelihood, w)
        return self._match(space, likelihood, w)

    def _match(self, space: Whitened, likelihood: Likelihood, w: Tensor) -> tuple[Tensor, Site]:
        """Return the mean with Gaussian sites and the sites of a likelihood, from w near the mode."""
        none, x = torch.zeros_like(w), space.image(w)
        here = Linearised(space, x, none.new_zeros(()))
        prior = here.variances(PROBES, self.cg_steps)
        # A few elements may have stepped to where y is all but impossible, as to fewer photons than none.
        astray = likelihood.each(here.clean) > FAR
        site = likelihood.tangent(torch.where(astray, likelihood.y, here.clean))
        if bool(astray.any()):
            w, _ = self._minimise(space, none, site, w)
        for _ in range(SWEEPS):
            here = Linearised(space, space.image(w), site.weight)
            # A probe is not exact: what it says is kept where the formulas make sense.
            least = 1e-3 / likelihood.curvature(here.clean)
            variance = torch.maximum(here.variances(PROBES, self.cg_steps), least + none.new_zeros(()))
            apart = variance / (1 - site.weight * variance).clamp_min(1e-3)
            # What others say of an element only adds to what the prior says of it.
            apart = torch.maximum(torch.minimum(apart, CAUTION * prior), variance)
            mean = here.clean + apart * site.gradient(here.clean)
            site = _matched(likelihood, mean, apart, here.clean, variance)
            w, _ = self._minimise(space, none, site, w)
        return w, site

    def _minimise(
        self, space: Whitened, xi: Tensor, likelihood: Likelihood | Site, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the minimiser of |w - xi|^2 / 2 + f from the start w, and a bound on its error, [B]."""
        operator = space.target.operator

        def objective(w: Tensor) -> Tensor:
            return inner(w - xi, w - xi) / 2 + likelihood.value(operator.forward(space.image(w)))

        before, linear = None, operator.linear_part is not None
        value = objective(w)
        healthy = torch.isfinite(value)
        for newton_step in range(self.newton_steps + 1):
            here = Linearised(space, space.image(w))
            here.weight = likelihood.curvature(here.clean)
            if before is not None and linear and here.weight is before.weight:
                here.weighted = before.weighted
            before = here
            gradient = w - xi + here.pull_back(likelihood.gradient(here.clean))
            error = here.error(gradient)
            going = healthy & (error > self.accuracy)
            if newton_step == self.newton_steps or not bool(going.any()):
                break
            # A sample that is done has nothing left to solve.
            b = torch.where(per_sample(going, w) != 0, -gradient, 0)
            dw, _ = here.solve(b, accuracy=self.accuracy / 2, max_steps=self.cg_steps)
            w, value = _descend(objective, w, dw, value, going)
        return torch.where(per_sample(healthy, w) != 0, w, torch.nan), error


def _matched(likelihood: Likelihood, mean: Tensor, variance: Tensor, at: Tensor, spread: Tensor) -> Site:
    """Return the sites that N(mean, variance) asks for; laws are looked for around it or around N(at, spread)."""

    def energy(a: Tensor) -> Tensor:
        return likelihood.each(a) + (a - mean).square() / (2 * variance)

    found = energy(at) <= energy(mean)
    start, width = torch.where(found, at, mean), torch.where(found, spread, variance).sqrt()
    return likelihood.matched(mean, variance, start, width, ROUNDS)


def _descend(
    objective: Callable[[Tensor], Tensor], w: Tensor, dw: Tensor, value: Tensor, going: Tensor
) -> tuple[Tensor, Tensor]:
    """Return w + dw / 2^k with the least k for which the objective falls, per sample; w itself where there is none."""
    waiting, length, bound = going.clone(), 1.0, value + SLACK * value.abs()
    for _ in range(HALVINGS):
        tried = w + length * dw
        new = objective(tried)
        better = waiting & (new < bound)
        w = torch.where(per_sample(better, w) != 0, tried, w)
        value = torch.where(better, new, value)
        waiting = waiting & ~better
        if not bool(waiting.any()):
            break
        length /= 2
    return w, value
