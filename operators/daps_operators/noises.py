"""The noise models that ship: their settings. What they do is in `daps_kit.noise`.

Gaussian noise, the default of every operator, is in `daps_kit.settings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from daps_kit.settings import NoiseSettings
from daps_kit.unknown import Jeffreys

if TYPE_CHECKING:
    from daps_kit.contracts import Noise

__all__ = ["Laplace", "Poisson", "PoissonGaussian", "Student"]


class Poisson(NoiseSettings):
    """Photon (shot) noise."""

    name = "poisson"
    unknowable: ClassVar = {"peak": None}
    peak: float = Field(255.0, gt=0, le=1e7, description="expected photon count at white (the value 1)")
    black: float | None = Field(
        None,
        lt=1,
        description="value that means no light; if not given, what the operator says: -1 for images, 0 for magnitudes",
    )

    def model(self) -> Noise:
        """Return the noise model."""
        from daps_kit.noise import PoissonNoise

        return PoissonNoise(self.peak, self.black)


class PoissonGaussian(Poisson):
    """Photon noise and read noise, as cameras have them: counts of photons, read with Gaussian noise."""

    name = "poisson_gaussian"
    unknowable: ClassVar = {"peak": None, "read": None}
    read: float = Field(2.0, gt=0, description="standard deviation of the read noise, in photons (electrons)")

    def model(self) -> Noise:
        """Return the noise model."""
        from daps_kit.noise import PoissonGaussianNoise

        return PoissonGaussianNoise(self.peak, self.read, self.black)


class Laplace(NoiseSettings):
    """Laplace noise, whose tails are heavier than a Gaussian's."""

    name = "laplace"
    unknowable: ClassVar = {"scale": Jeffreys()}
    scale: float = Field(
        0.05,
        gt=0,
        description="mean absolute deviation, in the units of the measurement; the standard deviation over sqrt(2)",
    )

    def model(self) -> Noise:
        """Return the noise model."""
        from daps_kit.noise import LaplaceNoise

        return LaplaceNoise(self.scale)


class Student(NoiseSettings):
    """Student's t noise, for measurements with outliers."""

    name = "student_t"
    unknowable: ClassVar = {"scale": Jeffreys(), "dof": None}
    scale: float = Field(
        0.05,
        gt=0,
        description="scale, in the units of the measurement; with many degrees of freedom the standard deviation",
    )
    dof: float = Field(
        4.0,
        ge=1,
        description="degrees of freedom: the fewer, the more outliers (1: Cauchy; above 30: nearly Gaussian)",
    )

    def model(self) -> Noise:
        """Return the noise model."""
        from daps_kit.noise import StudentNoise

        return StudentNoise(self.scale, self.dof)
