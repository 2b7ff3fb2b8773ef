"""The samplers and MCMC kernels that ship with daps-kit: their settings, and how the host finds them.

Importing this module does not import torch; each `build` imports what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from daps_kit.errors import ComponentError
from daps_kit.hooks import hookimpl
from daps_kit.settings import KernelSettings, SamplerSettings, Settings

if TYPE_CHECKING:
    from typing_extensions import Self

    from daps_kit.contracts import Kernel, Sampler

    from .schedules import Schedule


class _ChainSettings(KernelSettings):
    """What all kernels with a step size have in common."""

    steps: int = Field(100, ge=1, description="steps at each annealing level")
    lr: float = Field(1.0e-4, gt=0, description="step size at the first level, in the squared units of x")
    lr_min_ratio: float = Field(
        0.01,
        gt=0,
        le=1,
        description="the step size falls linearly with the level, to lr * lr_min_ratio at the last",
    )
    reach_lr_min: bool = Field(
        True, description="false, as published: level i of N takes the step size i / (N + 1) of the way down"
    )
    tau: float | None = Field(
        None,
        gt=0,
        description="standard deviation of the likelihood exp(-loss / (2 tau^2)); that of the noise where not given",
    )


class Langevin(_ChainSettings):
    """Unadjusted Langevin dynamics.

    The published tau = 0.01 is `tau: 0.00707` here (0.01 / sqrt 2), because the published score lacks the 1/2.
    """

    name = "langevin"

    def build(self) -> Kernel:
        """Return the kernel."""
        from .langevin import Langevin

        return Langevin(self.steps, self.lr, self.lr_min_ratio, tau=self.tau, reach_lr_min=self.reach_lr_min)


class Underdamped(_ChainSettings):
    """Underdamped Langevin dynamics: Langevin with a velocity (published as hmc, though nothing is rejected).

    The published tau = 0.01 is `tau: 0.00707` here (0.01 / sqrt 2), because the published score lacks the 1/2.
    """

    name = "underdamped"
    steps: int = Field(60, ge=1, description="steps at each annealing level")
    lr: float = Field(2.0e-5, gt=0, description="step size at the first level, in the squared units of x")
    momentum: float = Field(
        0.5, ge=0, lt=1, description="share of the velocity kept at each step; 0 is Langevin"
    )

    def build(self) -> Kernel:
        """Return the kernel."""
        from .underdamped import Underdamped

        return Underdamped(
            self.steps,
            self.lr,
            self.lr_min_ratio,
            momentum=self.momentum,
            tau=self.tau,
            reach_lr_min=self.reach_lr_min,
        )


class Metropolis(_ChainSettings):
    """Random-walk Metropolis (published as mh): exact in the limit, slow in many dimensions."""

    name = "metropolis"
    lr: float = Field(
        1.0e-5, gt=0, description="variance of the proposal at the first level, in squared units of x"
    )

    def build(self) -> Kernel:
        """Return the kernel."""
        from .metropolis import Metropolis

        return Metropolis(
            self.steps, self.lr, self.lr_min_ratio, tau=self.tau, reach_lr_min=self.reach_lr_min
        )


_OWNER = {"rho": "edm", "beta": "vp", "beta_min": "vp", "beta_max": "vp", "sigma_data": "trigflow"}


class _ScheduleSettings(Settings):
    """A noise schedule and the parameters that belong to it."""

    use: Literal["edm", "ve", "vp", "trigflow"] = Field(
        "edm", description="the schedule, which places the grid points"
    )
    rho: float = Field(
        7.0, gt=0, description="edm: exponent of the grid, larger puts more points at small sigma"
    )
    beta: Literal["linear", "scaled_linear"] = Field(
        "linear", description="vp: whether beta(t) or its root is linear"
    )
    beta_min: float = Field(0.1, gt=0, description="vp: beta(0)")
    beta_max: float = Field(20.0, gt=0, description="vp: beta(1)")
    sigma_data: float = Field(1.0, gt=0, description="trigflow: sigma(t) = sigma_data tan t")

    @model_validator(mode="after")
    def _belongs(self) -> Self:
        fields = type(self).model_fields
        for key, owner in _OWNER.items():
            if self.use != owner and getattr(self, key) != fields[key].default:
                raise ValueError(f"'{key}' is a parameter of the schedule '{owner}', not of '{self.use}'")
        if self.beta_max <= self.beta_min:
            raise ValueError(f"beta_max ({self.beta_max:g}) must be above beta_min ({self.beta_min:g})")
        return self

    def schedule(self) -> Schedule:
        """Return the schedule."""
        from . import schedules

        if self.use == "ve":
            return schedules.VE()
        if self.use == "vp":
            return schedules.VP(self.beta_min, self.beta_max, self.beta)
        if self.use == "trigflow":
            return schedules.TrigFlow(self.sigma_data)
        return schedules.EDM(self.rho)


class AnnealingSettings(_ScheduleSettings):
    """The noise levels that a run passes through."""

    levels: int = Field(200, ge=1, description="how many noise levels")
    sigma_max: float = Field(100.0, gt=0, description="the first noise level (images lie in [-1, 1])")
    sigma_min: float = Field(0.1, gt=0, description="the last noise level")
    reach_sigma_min: bool = Field(
        True,
        description="false, as published: the grid has one more point, which is left out, so sigma_min is not met",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max ({self.sigma_max:g}) must be above sigma_min ({self.sigma_min:g})")
        return self


class OdeSettings(_ScheduleSettings):
    """The probability-flow ODE from x_t to x0hat."""

    steps: int = Field(
        5,
        ge=0,
        description="steps of the solver, one network call each (heun: two); with 0, x0hat = E[x0 | x_t]",
    )
    sigma_min: float = Field(0.01, gt=0, description="noise level at which the ODE stops")
    solver: Literal["euler", "heun"] = Field("euler", description="euler (order 1) or heun (order 2)")
    denoise: bool = Field(
        False, description="denoise what is left at sigma_min, at the price of one more network call"
    )


class Daps(SamplerSettings):
    """Decoupled annealing posterior sampling (DAPS, arXiv 2407.01521), in pixels or in latents."""

    name = "daps"
    annealing: AnnealingSettings = Field(AnnealingSettings(), description="the noise levels of the run")
    ode: OdeSettings = Field(OdeSettings(), description="how the prior guesses x0hat from x_t")
    kernel: KernelSettings = Field(Langevin(), description="the MCMC kernel that draws x0 given x_t and y")
    prior_score: Literal["gaussian", "score-t", "score-min", "exact"] = Field(
        "gaussian",
        description="the prior's part of p(x0 | x_t): a Gaussian around x0hat; around E[x0 | x_t] (score-t); around "
        "x_t + sigma^2 score(x0hat, prior_sigma_min) (score-min); or p(x_t | x0) p(x0) with the prior's score asked "
        "anew at every step (exact: one network call a step, no density)",
    )
    prior_sigma_min: float = Field(
        0.01, gt=0, description="noise level of the prior's score in 'score-min' and 'exact'"
    )
    spread: Literal["sigma", "calibrated"] = Field(
        "sigma",
        description="covariance of the Gaussian p(x0 | x_t): sigma^2 I, as published, or what the prior knows of its "
        "own denoising error (sigma^2 I where it knows nothing)",
    )
    latent_gradient_clip: float | None = Field(
        None,
        gt=0,
        description="bound on each entry of the loss gradient by the latent (published: 1); none where null",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.spread == "calibrated" and self.prior_score in ("score-min", "exact"):
            raise ValueError(
                f"spread 'calibrated' needs prior_score 'gaussian' or 'score-t': '{self.prior_score}' fixes the spread"
            )
        return self

    def build(self) -> Sampler:
        """Return the sampler.

        Raises:
            daps_kit.errors.ComponentError: the kernel needs a density and `prior_score: exact` has none.
        """
        from .daps import DAPS, Annealing
        from .ode import ProbabilityFlow

        kernel = self.kernel.build()
        if self.prior_score == "exact" and kernel.needs_density:
            raise ComponentError(
                f"kernel '{self.kernel.name}' compares densities, and prior_score 'exact' has none; "
                "use 'gaussian', 'score-t' or 'score-min'"
            )
        annealing, ode = self.annealing, self.ode
        return DAPS(
            Annealing(
                annealing.schedule(),
                annealing.levels,
                annealing.sigma_max,
                annealing.sigma_min,
                annealing.reach_sigma_min,
            ),
            ProbabilityFlow(ode.schedule(), ode.steps, ode.sigma_min, ode.solver, ode.denoise),
            kernel,
            prior_score=self.prior_score,
            prior_sigma_min=self.prior_sigma_min,
            spread=self.spread,
            latent_gradient_clip=self.latent_gradient_clip,
        )


@hookimpl
def daps_kernels() -> Iterable[type[KernelSettings]]:
    """Return the settings of the kernels of this package."""
    return [Langevin, Underdamped, Metropolis]


@hookimpl
def daps_samplers() -> Iterable[type[SamplerSettings]]:
    """Return the settings of the samplers of this package."""
    return [Daps]
