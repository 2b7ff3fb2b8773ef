"""How a recipe names a noise schedule: `use` says which, and each has the parameters that are its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from daps_kit.settings import Settings

from .papers import KARRAS_2022, LU_2025, SONG_2021

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from .schedules import Schedule

__all__ = ["AnnealingSettings", "AutoAnnealing", "EDMAnnealing", "EDMOde", "OdeSettings"]


class _Schedule(Settings):
    """A noise schedule."""

    retired: ClassVar[Mapping[str, Any]] = {
        "rho": 7.0,
        "beta": "linear",
        "beta_min": 0.1,
        "beta_max": 20.0,
        "sigma_data": 1.0,
    }

    @abstractmethod
    def schedule(self) -> Schedule | None:
        """Return the schedule."""


class _EDM(_Schedule):
    papers = (KARRAS_2022,)
    use: Literal["edm"] = Field("edm", description="Karras et al., arXiv 2206.00364")
    rho: float = Field(7.0, gt=0, description="exponent of the grid, larger puts more points at small sigma")

    def schedule(self) -> Schedule:
        from .schedules import EDM

        return EDM(self.rho)


class _VE(_Schedule):
    papers = (SONG_2021,)
    use: Literal["ve"] = Field("ve", description="variance exploding, Song et al., arXiv 2011.13456")

    def schedule(self) -> Schedule:
        from .schedules import VE

        return VE()


class _VP(_Schedule):
    papers = (SONG_2021,)
    use: Literal["vp"] = Field("vp", description="variance preserving, Song et al., arXiv 2011.13456")
    beta: Literal["linear", "scaled_linear"] = Field(
        "linear", description="whether beta(t) or its root is linear"
    )
    beta_min: float = Field(0.1, gt=0, description="beta(0)")
    beta_max: float = Field(20.0, gt=0, description="beta(1)")

    def schedule(self) -> Schedule:
        from .schedules import VP

        return VP(self.beta_min, self.beta_max, self.beta)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.beta_max <= self.beta_min:
            raise ValueError(f"beta_max ({self.beta_max:g}) must be above beta_min ({self.beta_min:g})")
        return self


class _TrigFlow(_Schedule):
    papers = (LU_2025,)
    use: Literal["trigflow"] = Field("trigflow", description="Lu and Song, arXiv 2410.11081")
    sigma_data: float = Field(1.0, gt=0, description="sigma(t) = sigma_data tan t")

    def schedule(self) -> Schedule:
        from .schedules import TrigFlow

        return TrigFlow(self.sigma_data)


class _Auto(_Schedule):
    use: Literal["auto"] = Field(
        "auto",
        description="ve, a geometric series, if the prior knows the covariance of its error, else edm",
    )

    def schedule(self) -> None:
        """Return nothing: it is decided for each problem."""


class _Levels(Settings):
    """The noise levels that a run passes through (images lie in [-1, 1])."""

    levels: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="how many noise levels; as many as the budget pays for where not given",
    )
    sigma_max: float | None = Field(
        None,
        gt=0,
        description="the first; 10 where not given, less where y is an image with noise, blurred or small",
    )
    sigma_min: float | None = Field(
        None,
        gt=0,
        description="the last; where not given, the noise of the measurement, or 0.4 of it where no denoising "
        "follows, within 0.01 and 0.1",
    )
    reach_sigma_min: bool = Field(
        True,
        description="false, as published: the grid has one more point, which is left out, so sigma_min is not met",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.sigma_max is not None and self.sigma_min is not None and self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max ({self.sigma_max:g}) must be above sigma_min ({self.sigma_min:g})")
        return self


class AutoAnnealing(_Levels, _Auto):
    """Noise levels that suit what the prior knows."""


class EDMAnnealing(_Levels, _EDM):
    """Noise levels of the schedule edm."""


class VEAnnealing(_Levels, _VE):
    """Noise levels of the schedule ve."""


class VPAnnealing(_Levels, _VP):
    """Noise levels of the schedule vp."""


class TrigFlowAnnealing(_Levels, _TrigFlow):
    """Noise levels of the schedule trigflow."""


class _Steps(Settings):
    """The probability-flow ODE from x_t to x0hat."""

    steps: int = Field(
        0,
        ge=0,
        description="steps of the solver, one network call each (heun: two); with 0, x0hat = E[x0 | x_t], one call",
    )
    sigma_min: float = Field(0.01, gt=0, description="noise level at which the ODE stops")
    solver: Literal["euler", "heun"] = Field("euler", description="euler (order 1) or heun (order 2)")
    denoise: bool = Field(
        False, description="denoise what is left at sigma_min, at the price of one more network call"
    )


class EDMOde(_Steps, _EDM):
    """The ODE in the time of the schedule edm."""


class VEOde(_Steps, _VE):
    """The ODE in the time of the schedule ve."""


class VPOde(_Steps, _VP):
    """The ODE in the time of the schedule vp."""


class TrigFlowOde(_Steps, _TrigFlow):
    """The ODE in the time of the schedule trigflow."""


def _use(default: str) -> Discriminator:
    """Return what tells which of the classes a section is for; one without `use` is for the default."""

    def use(section: Any) -> Any:
        return section.get("use", default) if isinstance(section, dict) else getattr(section, "use", None)

    return Discriminator(use)


AnnealingSettings = Annotated[
    Annotated[AutoAnnealing, Tag("auto")]
    | Annotated[EDMAnnealing, Tag("edm")]
    | Annotated[VEAnnealing, Tag("ve")]
    | Annotated[VPAnnealing, Tag("vp")]
    | Annotated[TrigFlowAnnealing, Tag("trigflow")],
    _use("auto"),
]
"""The noise levels of a run, by the schedule that places them."""

OdeSettings = Annotated[
    Annotated[EDMOde, Tag("edm")]
    | Annotated[VEOde, Tag("ve")]
    | Annotated[VPOde, Tag("vp")]
    | Annotated[TrigFlowOde, Tag("trigflow")],
    _use("edm"),
]
"""The solver of the probability-flow ODE, by the schedule in whose time it runs."""
