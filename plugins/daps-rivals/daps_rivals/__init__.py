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

if TYPE_CHECKING:
    from daps_kit.contracts import Sampler

__all__ = ["DDNM", "DDRM", "DPS", "DiffPIR", "PiGDM", "RedDiff"]

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
    steps: int = Field(100, ge=1, description="steps of the diffusion: a network call each")
    eta: float = Field(0.85, gt=0, le=1, description="share of fresh noise in DDIM's step; 1 is ancestral")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .ddnm import DDNM

        return DDNM(self.calls, self.eta)


class DiffPIR(_Steps):
    """Half-quadratic splitting inside a diffusion (DiffPIR, arXiv 2305.08995), for linear operators."""

    name = "diffpir"
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
    steps: int = Field(1000, ge=1, description="steps of the optimisation: a network call each")
    weight: float = Field(0.25, gt=0, description="lambda, the weight of the prior")
    lr: float = Field(0.1, gt=0, description="step size of Adam")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .reddiff import REDDiff

        return REDDiff(self.calls, self.weight, self.lr)


@hookimpl
def daps_samplers() -> Iterable[type[SamplerSettings]]:
    """Return the settings of the samplers of this package."""
    return [DPS, PiGDM, DDRM, DDNM, DiffPIR, RedDiff]
