"""Other samplers of the field for daps-kit. Importing this module does not import torch.

Each sampler is a file that opens with its mathematics and reads beside its paper. Defaults are those of the authors;
where these tune for each task, `recipes` has their numbers. `budget` sets how many network calls a sample may cost, so
that samplers can be compared at equal cost: it wins over the settings that say the same in each paper's own way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from daps_kit.hooks import hookimpl
from daps_kit.settings import SamplerSettings

from .papers import PAPERS

if TYPE_CHECKING:
    from daps_kit.contracts import Sampler

__all__ = [
    "DCDP",
    "DDNM",
    "DDRM",
    "DDSMC",
    "DPS",
    "FPSSMC",
    "LATINO",
    "MMPS",
    "PSLD",
    "RED",
    "TDS",
    "TMPD",
    "DiffPIR",
    "FastDIPS",
    "MCGDiff",
    "PiGDM",
    "PnPADMM",
    "PnPDM",
    "PnPHQS",
    "ReSample",
    "RedDiff",
    "Sitcom",
    "TotalVariation",
    "Wiener",
]

_BUDGET = Field(
    None, ge=1, description="network calls of a sample, in place of the settings that say it otherwise"
)


class _Steps(SamplerSettings):
    """Base of the settings of samplers with one network call a step."""

    budget: int | None = _BUDGET

    steps: int

    @property
    def calls(self) -> int:
        """Steps, as many as the budget allows."""
        return self.steps if self.budget is None else self.budget


class DPS(_Steps):
    """Diffusion posterior sampling (DPS, arXiv 2209.14687), for any operator and noise."""

    name = "dps"
    papers = (PAPERS["dps"],)
    steps: int = Field(
        1000, ge=1, description="steps of the diffusion: a network call and a Jacobian product each"
    )
    zeta: float = Field(
        1.0,
        gt=0,
        description="length of a step down ||y - A(x0hat)||; the authors take 0.3 (down-sampling, blurs), 0.5 "
        "(inpainting) and 1 (phase retrieval)",
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .dps import DPS

        return DPS(self.calls, self.zeta)


class PiGDM(_Steps):
    """Pseudoinverse-guided diffusion (PiGDM, ICLR 2023), for linear operators and Gaussian noise."""

    name = "pigdm"
    papers = (PAPERS["pigdm"],)
    steps: int = Field(
        100, ge=1, description="steps of the diffusion: a network call and a Jacobian product each"
    )
    eta: float = Field(1.0, ge=0, le=1, description="share of fresh noise in DDIM's step; 1 is ancestral")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .pigdm import PiGDM

        return PiGDM(self.calls, self.eta)


class DDRM(_Steps):
    """Denoising diffusion restoration (DDRM, arXiv 2201.11793), for linear operators with known singular values."""

    name = "ddrm"
    papers = (PAPERS["ddrm"],)
    steps: int = Field(20, ge=1, description="steps of the diffusion: a network call each")
    eta: float = Field(0.85, ge=0, le=1, description="share of fresh noise where y says less than x_t")
    eta_b: float = Field(1.0, ge=0, le=1, description="how far y is followed where it says more than x_t")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .ddrm import DDRM

        return DDRM(self.calls, self.eta, self.eta_b)


class DDNM(_Steps):
    """Denoising diffusion null-space model (DDNM+, arXiv 2212.00490), for linear operators and Gaussian noise."""

    name = "ddnm"
    papers = (PAPERS["ddnm"],)
    steps: int = Field(100, ge=1, description="steps of the diffusion: a network call each")
    eta: float = Field(0.85, gt=0, le=1, description="share of fresh noise in DDIM's step; 1 is ancestral")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .ddnm import DDNM

        return DDNM(self.calls, self.eta)


class DiffPIR(_Steps):
    """Half-quadratic splitting inside a diffusion (DiffPIR, arXiv 2305.08995), for linear operators."""

    name = "diffpir"
    papers = (PAPERS["diffpir"],)
    steps: int = Field(100, ge=1, description="steps of the diffusion: a network call each")
    weight: float = Field(1.0, gt=0, description="lambda, the weight of the prior's guess")
    zeta: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of fresh noise; the authors take 0.1 (blurs, down-sampling) and 1 (masks)",
    )
    spacing: Literal["quad", "uniform"] = Field(
        "quad", description="steps equal in the root of the time, or in the time itself"
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .diffpir import DiffPIR

        return DiffPIR(self.calls, self.weight, self.zeta, self.spacing)


class RedDiff(_Steps):
    """Regularisation by denoising diffusion (RED-diff, arXiv 2305.04391), for any operator and noise."""

    name = "red_diff"
    papers = (PAPERS["red_diff"],)
    steps: int = Field(1000, ge=1, description="steps of the optimisation: a network call each")
    weight: float = Field(0.25, gt=0, description="lambda, the weight of the prior")
    lr: float = Field(0.1, gt=0, description="step size of Adam")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .reddiff import REDDiff

        return REDDiff(self.calls, self.weight, self.lr)


class MMPS(_Steps):
    """Moment matching posterior sampling (MMPS, arXiv 2405.13712), for linear operators and Gaussian noise."""

    name = "mmps"
    papers = (PAPERS["mmps"],)
    steps: int = Field(
        64, ge=1, description="steps of the diffusion: a network call each, and Jacobian products"
    )
    solver_steps: int = Field(
        1, ge=1, description="steps of conjugate gradients, a Jacobian product each, and one more"
    )
    eta: float = Field(1.0, ge=0, le=1, description="share of fresh noise in DDIM's step; 1 is ancestral")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .mmps import MMPS

        return MMPS(self.calls, self.solver_steps, self.eta)


class TMPD(_Steps):
    """Tweedie moment projected diffusion (TMPD, arXiv 2310.06721), for linear operators and Gaussian noise."""

    name = "tmpd"
    papers = (PAPERS["tmpd"],)
    steps: int = Field(
        1000, ge=1, description="steps of the diffusion: a network call and two Jacobian products each"
    )
    eta: float = Field(1.0, ge=0, le=1, description="share of fresh noise in DDIM's step; 1 is ancestral")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .tmpd import TMPD

        return TMPD(self.calls, self.eta)


class PnPDM(SamplerSettings):
    """Gibbs sampling between an image and a noisy copy (PnP-DM, arXiv 2405.18782), for linear operators."""

    name = "pnp_dm"
    papers = (PAPERS["pnp_dm"],)
    budget: int | None = _BUDGET
    iterations: int = Field(100, ge=1, description="iterations of the Gibbs sampler")
    prior_steps: int = Field(50, ge=1, description="network calls of each prior step")
    rho: float = Field(10.0, gt=0, description="distance of the copy from the image at first")
    rho_min: float = Field(0.3, gt=0, description="the least distance")
    decay: float = Field(0.9, gt=0, lt=1, description="ratio of one distance to the one before")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .pnpdm import PnPDM

        iterations, steps = _split(self.budget, self.iterations, self.prior_steps)
        return PnPDM(iterations, steps, self.rho, self.rho_min, self.decay)


class Sitcom(SamplerSettings):
    """Step-wise triple-consistent sampling (SITCOM, arXiv 2410.04479), for any operator and noise."""

    name = "sitcom"
    papers = (PAPERS["sitcom"],)
    budget: int | None = _BUDGET
    steps: int = Field(20, ge=1, description="steps of the diffusion")
    inner: int = Field(
        30, ge=1, description="steps of the search in each: a network call and a Jacobian product each"
    )
    lr: float = Field(0.02, gt=0, description="step size of Adam")
    weight: float = Field(0.0, ge=0, description="lambda, how the input of the network is held at x_t")
    delta: float = Field(
        1.02, gt=0, description="residual at which the search ends, in standard deviations of the noise"
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .sitcom import SITCOM

        steps, calls = _split(self.budget, self.steps, self.inner + 1, least=2)
        return SITCOM(steps, calls - 1, self.lr, self.weight, self.delta)


class DCDP(SamplerSettings):
    """Data consistency decoupled from diffusion purification (DCDP, arXiv 2403.06054), for any operator and noise."""

    name = "dcdp"
    papers = (PAPERS["dcdp"],)
    budget: int | None = _BUDGET
    iterations: int = Field(10, ge=1, description="turns of data consistency and purification")
    purification_steps: int = Field(
        20,
        ge=1,
        description="network calls of a purification, fewer where it starts from less than so many steps",
    )
    descent_steps: int = Field(10, ge=1, description="steps down the misfit in each turn")
    lr: float = Field(
        0.16,
        gt=0,
        description="their size, on half the squared misfit; the authors' sizes on its mean amount to 0.16 "
        "(down-sampling), 0.01 (a box) and 1 (blurs)",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the descent")
    first: int = Field(
        400, ge=1, le=1000, description="T_0 of 1000, where the first purification starts; 700 for a box"
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .dcdp import DCDP

        iterations, steps = _split(self.budget, self.iterations, self.purification_steps)
        return DCDP(iterations, steps, self.descent_steps, self.lr, self.momentum, self.first)


class FastDIPS(_Steps):
    """Guesses corrected within a ball about the measurement (FAST-DIPS, arXiv 2603.01591), for any operator."""

    name = "fast_dips"
    papers = (PAPERS["fast_dips"],)
    steps: int = Field(
        75,
        ge=1,
        description="noise levels: a network call each; 75 (masks, down-sampling), 50 (blurs), 150 (nonlinear)",
    )
    rounds: int = Field(3, ge=1, description="rounds of ADMM at each; 2 for operators that are not linear")
    descent_steps: int = Field(
        1, ge=1, description="steps of the image in each; 2 for blurs, 5 for nonlinear ones"
    )
    rho: float = Field(200.0, gt=0, description="the penalty; 5 for a high dynamic range")
    epsilon: float = Field(0.05, gt=0, description="radius of the ball about the measurement")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .fastdips import FASTDIPS

        return FASTDIPS(self.calls, self.rounds, self.descent_steps, self.rho, self.epsilon)


class _Particles(SamplerSettings):
    """Base of the settings of particle filters, with a network call a step for each particle."""

    budget: int | None = _BUDGET
    steps: int = Field(100, ge=1, description="steps of the diffusion")
    particles: int = Field(
        8, ge=1, description="particles, of which one is the sample: a network call a step each"
    )

    @property
    def split(self) -> tuple[int, int]:
        """Steps and particles, as many as the budget allows."""
        if self.budget is None:
            return self.steps, self.particles
        particles = min(self.particles, max(1, round(self.budget**0.5)))
        return self.budget // particles, particles


class TDS(_Particles):
    """Twisted diffusion sampling with particles (TDS, arXiv 2306.17775), for any operator and Gaussian noise."""

    name = "tds"
    papers = (PAPERS["tds"],)

    def build(self) -> Sampler:
        """Return the sampler."""
        from .tds import TDS

        return TDS(*self.split)


class MCGDiff(_Particles):
    """Monte Carlo guided diffusion with particles (MCGDiff, arXiv 2308.07983), for linear operators."""

    name = "mcgdiff"
    papers = (PAPERS["mcgdiff"],)
    particles: int = Field(
        64, ge=1, description="particles, of which one is the sample: a network call a step each"
    )
    kappa: float = Field(1e-4, gt=0, lt=1, description="variance that a measured direction keeps at its time")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .mcgdiff import MCGDiff

        return MCGDiff(*self.split, self.kappa)


class DDSMC(_Particles):
    """Decoupled diffusion sequential Monte Carlo (DDSMC, arXiv 2502.06379), for linear operators."""

    name = "ddsmc"
    papers = (PAPERS["ddsmc"],)
    particles: int = Field(
        5, ge=1, description="particles, of which one is the sample: a network call a step each"
    )
    eta: float = Field(0.0, ge=0, le=1, description="how much of x_t a step keeps: 0 as DAPS, 1 as DDPM")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .ddsmc import DDSMC

        return DDSMC(*self.split, self.eta)


class FPSSMC(_Particles):
    """Filtering posterior sampling with particles (FPS-SMC, ICLR 2024), for linear operators."""

    name = "fps_smc"
    papers = (PAPERS["fps_smc"],)
    steps: int = Field(1000, ge=1, description="steps of the diffusion")
    particles: int = Field(
        5, ge=1, description="particles, of which one is the sample: a network call a step each"
    )
    fresh: float = Field(0.95, gt=0, le=1, description="c, the share of fresh noise in a step")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .fpssmc import FPSSMC

        return FPSSMC(*self.split, self.fresh)


class PnPHQS(_Steps):
    """Half-quadratic splitting with the prior's denoiser (PnP-HQS, arXiv 2008.13751): one estimate."""

    name = "pnp_hqs"
    papers = (PAPERS["pnp_hqs"],)
    steps: int = Field(8, ge=1, description="steps: a network call each")
    sigma_max: float = Field(0.384, gt=0, description="the first noise level (49 of 255, images in [-1, 1])")
    weight: float = Field(0.23, gt=0, description="lambda, the weight of the denoised image")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .hqs import HQS

        return HQS(self.calls, self.sigma_max, self.weight)


class PSLD(_Steps):
    """Posterior sampling with latent diffusion (PSLD, arXiv 2307.00619), for linear operators."""

    name = "psld"
    papers = (PAPERS["psld"],)
    steps: int = Field(
        1000, ge=1, description="steps of the diffusion: a network call and a Jacobian product each"
    )
    omega: float = Field(1.0, gt=0, description="weight of the misfit")
    gamma: float = Field(0.1, ge=0, description="weight of the glue, by which latents are those of images")
    eta: float = Field(1.0, ge=0, le=1, description="share of fresh noise in DDIM's step; 1 is ancestral")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .psld import PSLD

        return PSLD(self.calls, self.omega, self.gamma, self.eta)


class LATINO(_Steps):
    """A latent consistency inverse solver (LATINO, arXiv 2503.12615), for linear operators and Gaussian noise."""

    name = "latino"
    papers = (PAPERS["latino"],)
    steps: int = Field(8, ge=1, description="steps: a network call each")
    delta: float = Field(1.0, gt=0, description="how far an image may go towards the measurement in a step")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .latino import LATINO

        return LATINO(self.calls, self.delta)


class ReSample(_Steps):
    """A latent diffusion with hard data consistency (ReSample, arXiv 2307.08123), for any operator and noise."""

    name = "resample"
    papers = (PAPERS["resample"],)
    steps: int = Field(500, ge=1, description="steps of the diffusion: a network call each")
    every: int = Field(10, ge=1, description="steps from one data consistency to the next")
    pixel_steps: int = Field(2000, ge=1, description="steps on an image, in the second third, at most")
    latent_steps: int = Field(500, ge=1, description="steps on a latent, in the last third, at most")
    pixel_lr: float = Field(0.01, gt=0, description="step size of Adam on images")
    latent_lr: float = Field(0.005, gt=0, description="step size of Adam on latents")
    gamma: float = Field(40.0, gt=0, description="how much more the guess counts than the step before it")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .resample import ReSample

        return ReSample(
            self.calls,
            self.every,
            self.pixel_steps,
            self.latent_steps,
            self.pixel_lr,
            self.latent_lr,
            self.gamma,
        )


class PnPADMM(_Steps):
    """The alternating direction method with the prior's denoiser (PnP-ADMM, arXiv 1605.01710): one estimate."""

    name = "pnp_admm"
    papers = (PAPERS["pnp_admm"], PAPERS["pnp"])
    steps: int = Field(20, ge=1, description="steps: a network call each")
    rho: float = Field(1.0, gt=0, description="the first penalty")
    gamma: float = Field(1.0, ge=1, description="ratio of one penalty to the one before")
    strength: float = Field(
        1.0, gt=0, description="the denoiser's first noise level, in standard deviations of the noise"
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .admm import ADMM

        return ADMM(self.calls, self.rho, self.gamma, self.strength)


class RED(_Steps):
    """Regularisation by denoising (RED, arXiv 1611.02862), the fixed-point strategy: one estimate."""

    name = "red"
    papers = (PAPERS["red"],)
    steps: int = Field(200, ge=1, description="steps: a network call each")
    weight: float = Field(
        162.6,
        gt=0,
        description="lambda; 0.01 (blurs) for images in [0, 255], and 0.008 (down-sampling) is 130",
    )
    sigma: float = Field(
        0.0322,
        gt=0,
        description="the denoiser's noise level; 4.1 (blurs) of 255, and 3 (down-sampling) is 0.0235",
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .red import RED

        return RED(self.calls, self.weight, self.sigma)


class Wiener(SamplerSettings):
    """Wiener's filter with mean and covariance of the prior: the best linear estimate, for one network call."""

    name = "wiener"
    papers = (PAPERS["wiener"],)
    budget: int | None = Field(None, ge=1, description="network calls of a sample; one is all that is used")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .wiener import Wiener

        return Wiener()


class TotalVariation(SamplerSettings):
    """Least total variation (TV) by the primal-dual method, without the prior: one estimate."""

    name = "tv"
    papers = (PAPERS["tv"],)
    budget: int | None = Field(None, ge=1, description="network calls of a sample; none is used")
    steps: int = Field(300, ge=1, description="steps of the method")
    weight: float = Field(
        5.0, gt=0, description="lambda: how much variation costs, against a misfit in units of the noise"
    )

    def build(self) -> Sampler:
        """Return the sampler."""
        from .tv import TotalVariation

        return TotalVariation(self.steps, self.weight)


def _split(budget: int | None, outer: int, inner: int, least: int = 1) -> tuple[int, int]:
    """Return outer and inner steps whose product is within a budget, about equal where that is less than usual."""
    if budget is None:
        return outer, inner
    inner = min(inner, max(least, round(budget**0.5)))
    return max(1, budget // inner), inner


@hookimpl
def daps_samplers() -> Iterable[type[SamplerSettings]]:
    """Return the settings of the samplers of this package."""
    return [
        DPS,
        PiGDM,
        DDRM,
        DDNM,
        DiffPIR,
        RedDiff,
        MMPS,
        TMPD,
        PnPDM,
        Sitcom,
        DCDP,
        FastDIPS,
        TDS,
        MCGDiff,
        DDSMC,
        FPSSMC,
        PSLD,
        LATINO,
        ReSample,
        PnPHQS,
        PnPADMM,
        RED,
        Wiener,
        TotalVariation,
    ]
