"""The samplers and MCMC kernels that ship with daps-kit: their settings, and how the host finds them.

Importing this module does not import torch; each `build` imports what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from daps_kit.errors import ComponentError
from daps_kit.hooks import hookimpl
from daps_kit.settings import ExecutorSettings, KernelSettings, SamplerSettings

from .executors import Dask, Local, Processes
from .papers import (
    BARDSLEY_2014,
    HOFFMAN_2014,
    KELVINIUS_2025,
    METROPOLIS_1953,
    NEAL_2011,
    ORIEUX_2012,
    ROBERTS_1996,
    WU_2023,
    ZHANG_2025,
)
from .schedule_settings import AnnealingSettings, AutoAnnealing, EDMOde, OdeSettings

if TYPE_CHECKING:
    from typing_extensions import Self

    from daps_kit.contracts import Kernel, Sampler


_TAU = Field(None, gt=0, description="the sampler's tau, which recipes of the published settings give here")
"""A kernel does not need to know it: `Daps.build` hands it to the sampler."""


class _ChainSettings(KernelSettings):
    """What all kernels with a step size have in common."""

    steps: int = Field(100, ge=1, description="steps at each annealing level")
    lr_min_ratio: float = Field(
        0.01,
        gt=0,
        le=1,
        description="the step size falls linearly with the level, to lr * lr_min_ratio at the last",
    )
    reach_lr_min: bool = Field(
        True, description="false, as published: level i of N takes the step size i / (N + 1) of the way down"
    )
    tau: float | None = _TAU


class Langevin(_ChainSettings):
    """Unadjusted Langevin dynamics, with a step size of your own or a measured one.

    With `lr: auto` the chain is whitened by the covariance of p(x0 | x_t), and at each level every sample's step size
    is 0.05 over the largest curvature of its target, found by power iteration. The published tau = 0.01 is
    `tau: 0.00707` here (0.01 / sqrt 2), because the published score lacks the 1/2.
    """

    name = "langevin"
    papers = (ROBERTS_1996,)
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto", description="step size at the first level, in the squared units of x, or auto: a measured one"
    )

    def build(self) -> Kernel:
        """Return the kernel."""
        from .langevin import Langevin, WhitenedLangevin

        if self.lr == "auto":
            return WhitenedLangevin(self.steps)
        return Langevin(self.steps, self.lr, self.lr_min_ratio, reach_lr_min=self.reach_lr_min)


class Underdamped(_ChainSettings):
    """Underdamped Langevin dynamics: Langevin with a velocity (published as hmc, though nothing is rejected).

    The published tau = 0.01 is `tau: 0.00707` here (0.01 / sqrt 2), because the published score lacks the 1/2.
    """

    name = "underdamped"
    papers = (ROBERTS_1996,)
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
            reach_lr_min=self.reach_lr_min,
        )


class Metropolis(_ChainSettings):
    """Random-walk Metropolis (published as mh): exact in the limit, slow in many dimensions."""

    name = "metropolis"
    papers = (METROPOLIS_1953,)
    lr: float = Field(
        1.0e-5, gt=0, description="variance of the proposal at the first level, in squared units of x"
    )

    def build(self) -> Kernel:
        """Return the kernel."""
        from .metropolis import Metropolis

        return Metropolis(self.steps, self.lr, self.lr_min_ratio, reach_lr_min=self.reach_lr_min)


class Auto(KernelSettings):
    """The kernel that suits the problem: exact for a linear operator with Gaussian noise, else rto."""

    name = "auto"
    papers = (ORIEUX_2012, BARDSLEY_2014)
    tau: float | None = _TAU

    def build(self) -> Kernel:
        """Return the kernel."""
        from .auto import Auto

        return Auto()


class Exact(KernelSettings):
    """Exact draws for a linear operator with Gaussian noise: in closed form, or by conjugate gradients."""

    name = "exact"
    papers = (ORIEUX_2012,)
    accuracy: float = Field(
        0.001, gt=0, lt=1, description="error of a draw in posterior standard deviations, root mean square"
    )
    cg_steps: int = Field(300, ge=1, description="steps of conjugate gradients at most")
    tau: float | None = _TAU

    def build(self) -> Kernel:
        """Return the kernel."""
        from .exact import Exact

        return Exact(self.accuracy, self.cg_steps)


class RandomiseThenOptimise(KernelSettings):
    """Randomise-then-optimise, for any operator: a sample is the minimiser of a perturbed objective."""

    name = "rto"
    papers = (BARDSLEY_2014,)
    newton_steps: int = Field(2, ge=1, description="Gauss-Newton steps at each level at most")
    cg_steps: int = Field(5, ge=1, description="steps of conjugate gradients in each at most")
    accuracy: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="distance to the minimiser that is tolerated, in posterior standard deviations",
    )
    tau: float | None = _TAU

    def build(self) -> Kernel:
        """Return the kernel."""
        from .rto import RandomiseThenOptimise

        return RandomiseThenOptimise(self.newton_steps, self.cg_steps, self.accuracy)


class _AdjustedSettings(KernelSettings):
    """What the kernels have in common that adapt a step size and test their proposals."""

    step_size: float | None = Field(
        None,
        gt=0,
        description="step size in whitened coordinates (the Gaussian p(x0 | x_t) is N(0, I)); adapted where not given",
    )
    tau: float | None = _TAU


class MALA(_AdjustedSettings):
    """Metropolis-adjusted Langevin dynamics, which leave the target exactly invariant."""

    name = "mala"
    papers = (ROBERTS_1996, HOFFMAN_2014)
    steps: int = Field(100, ge=1, description="steps at each annealing level")
    acceptance: float = Field(0.574, gt=0, lt=1, description="acceptance that the step size is adapted to")

    def build(self) -> Kernel:
        """Return the kernel."""
        from .mala import MALA

        return MALA(self.steps, self.acceptance, step_size=self.step_size)


class HMC(_AdjustedSettings):
    """Hamiltonian Monte Carlo with a Metropolis test, which leaves the target exactly invariant."""

    name = "hmc"
    papers = (NEAL_2011, HOFFMAN_2014)
    steps: int = Field(20, ge=1, description="steps at each annealing level")
    leapfrog: int = Field(5, ge=1, description="leapfrog steps, one gradient each, in a step")
    acceptance: float = Field(0.65, gt=0, lt=1, description="acceptance that the step size is adapted to")

    def build(self) -> Kernel:
        """Return the kernel."""
        from .hmc import HMC

        return HMC(self.steps, self.leapfrog, self.acceptance, step_size=self.step_size)


class Daps(SamplerSettings):
    """Decoupled annealing posterior sampling (DAPS, arXiv 2407.01521), in pixels or in latents.

    With nothing else said: one network call a level, the covariance of the prior's error as it was measured, the true
    noise and the kernel that suits the operator. The published method is `ode: {steps: 5}`, `kernel: {use: langevin}`
    with its step size and tau, and `annealing` with its levels and range.
    """

    name = "daps"
    papers = (ZHANG_2025,)
    budget: Literal["fast", "balanced", "accurate"] | Annotated[int, Field(ge=2, le=10_000)] = Field(
        "balanced",
        description="network calls of a sample: fast (9; 25 where the operator is not linear), balanced (21; "
        "56), accurate (101) or a number; of no effect where annealing.levels is given",
    )
    restarts: int | None = Field(
        None,
        ge=1,
        description="starts, of which from level to level those with the least residuals go on: their number falls "
        "with sigma^2 below sigma 10, down to one; if not given, a quarter of the budget, at most 24, for a multimodal "
        "operator (phase retrieval) where annealing.levels is not given, else 1",
    )
    annealing: AnnealingSettings = Field(AutoAnnealing(), description="the noise levels of the run")
    ode: OdeSettings = Field(EDMOde(), description="how the prior guesses x0hat from x_t")
    kernel: KernelSettings = Field(Auto(), description="the MCMC kernel that draws x0 given x_t and y")
    tau: float | None = Field(
        None,
        gt=0,
        description="standard deviation of the likelihood exp(-loss / (2 tau^2)); kernel.tau where that is given, else "
        "that of the noise",
    )
    prior_score: Literal["gaussian", "score-t", "score-min", "exact"] = Field(
        "gaussian",
        description="the prior's part of p(x0 | x_t): a Gaussian around x0hat; around E[x0 | x_t] (score-t); around "
        "x_t + sigma^2 score(x0hat, prior_sigma_min) (score-min); or p(x_t | x0) p(x0) with the prior's score asked "
        "anew at every step (exact: one network call a step, no density)",
    )
    prior_sigma_min: float = Field(
        0.01, gt=0, description="noise level of the prior's score in 'score-min' and 'exact'"
    )
    spread: Literal["auto", "sigma", "calibrated", "mean", "isotropic"] = Field(
        "auto",
        description="covariance of the Gaussian p(x0 | x_t): sigma^2 I, as published; calibrated, what the prior knows "
        "of its own denoising error, at the very x_t where it tells places apart (sigma^2 I where it knows nothing); "
        "mean, that averaged over x_t; isotropic, the mean variance; auto is calibrated where ode.steps is 0 and "
        "prior_score gaussian or score-t, else sigma",
    )
    forgetting: float | None = Field(
        None,
        ge=1,
        description="how soon the noise of a level is forgotten: its correlation with that of the next is the ratio of "
        "their sigmas to this power. 1 keeps most (the ancestral step); if not given, 2 where the covariance of the "
        "prior's error is used (for a multimodal operator only from sigma 0.15 down), else the noise is fresh, as "
        "published",
    )
    noise_correlation: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="in place of `forgetting`, one correlation at all levels: 0, as published, is fresh noise; below "
        "0, over-relaxation, a single sample is nearer to the truth and samples are too alike",
    )
    final_denoise: bool | None = Field(
        None,
        description="whether the last sample is denoised once, at the noise level of a draw from its covariance, which "
        "makes samples too alike; if not given, where ode.steps is 0 and the prior does not know its error",
    )
    latent_gradient_clip: float | None = Field(
        None,
        gt=0,
        description="bound on each entry of the loss gradient by the latent (published: 1); none where null",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.spread not in ("auto", "sigma") and self.prior_score in ("score-min", "exact"):
            raise ValueError(
                f"spread '{self.spread}' needs prior_score 'gaussian' or 'score-t': "
                f"'{self.prior_score}' fixes the spread"
            )
        if self.forgetting is not None and self.noise_correlation is not None:
            raise ValueError("forgetting and noise_correlation say the same thing: give one of them")
        if self.tau is not None and getattr(self.kernel, "tau", None) not in (None, self.tau):
            raise ValueError("tau and kernel.tau say the same thing: give one of them")
        return self

    def build(self) -> Sampler:
        """Return the sampler.

        Raises:
            daps_kit.errors.ComponentError: the kernel needs a density and `prior_score: exact` has none.
        """
        from .annealing import Annealing
        from .daps import DAPS
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
            tau=getattr(self.kernel, "tau", None) if self.tau is None else self.tau,
            prior_score=self.prior_score,
            prior_sigma_min=self.prior_sigma_min,
            spread=self.spread,
            budget=self.budget,
            restarts=self.restarts,
            forgetting=self.forgetting,
            noise_correlation=self.noise_correlation,
            final_denoise=self.final_denoise,
            latent_gradient_clip=self.latent_gradient_clip,
        )


class Smc(SamplerSettings):
    """Sequential Monte Carlo: the samples of an image are particles that tell each other which modes are likely.

    For a linear operator with Gaussian noise and few measured numbers (64 at most). The `runs` of an image are its
    particles and are drawn in one batch, whatever `batch_size` says: 64 of them find the modes of a posterior and their
    weights, which runs that know nothing of each other do not. They depend on each other; with other `runs` they are
    others. Runs that are added to a folder later are particles of a system of their own.
    """

    name = "smc"
    papers = (ZHANG_2025, WU_2023, KELVINIUS_2025)
    levels: int = Field(101, ge=2, description="noise levels, each of one network call a particle")
    sigma_max: float | None = Field(None, gt=0, description="the first; 10 where not given")
    sigma_min: float | None = Field(
        None, gt=0, description="the last; 0.4 of the noise, 0.01 to 0.1, where not given"
    )
    forgetting: float = Field(
        1.0,
        ge=1,
        description="as in `daps`; 1, the ancestral step, keeps the weights of particles most equal",
    )

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if None not in (self.sigma_max, self.sigma_min) and self.sigma_max <= self.sigma_min:  # type: ignore[operator]
            raise ValueError(f"sigma_max {self.sigma_max:g} must be above sigma_min {self.sigma_min:g}")
        return self

    def build(self) -> Sampler:
        """Return the sampler."""
        from .annealing import Annealing
        from .exact import Exact as ExactKernel
        from .ode import ProbabilityFlow
        from .schedules import VE
        from .smc import SMC

        ode = EDMOde()
        return SMC(
            Annealing(VE(), self.levels, self.sigma_max, self.sigma_min),
            ProbabilityFlow(ode.schedule(), ode.steps, ode.sigma_min, ode.solver, ode.denoise),
            ExactKernel(accuracy=1e-3),
            restarts=1,
            forgetting=self.forgetting,
            final_denoise=False,
        )


@hookimpl
def daps_kernels() -> Iterable[type[KernelSettings]]:
    """Return the settings of the kernels of this package."""
    return [Auto, Exact, RandomiseThenOptimise, HMC, MALA, Langevin, Underdamped, Metropolis]


@hookimpl
def daps_samplers() -> Iterable[type[SamplerSettings]]:
    """Return the settings of the samplers of this package."""
    return [Daps, Smc]


@hookimpl
def daps_executors() -> Iterable[type[ExecutorSettings]]:
    """Return the executors."""
    return [Local, Processes, Dask]
