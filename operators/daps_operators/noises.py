"""The noise models that ship: their settings. What they do is in `daps_kit.noise`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from daps_kit.settings import NoiseSettings

if TYPE_CHECKING:
    from daps_kit.contracts import Noise

__all__ = ["Poisson"]


class Poisson(NoiseSettings):
    """Photon (shot) noise."""

    name = "poisson"
    peak: float = Field(255.0, gt=0, description="expected photon count at white (the value 1)")
    black: float | None = Field(
        None,
        lt=1,
        description="value that means no light; if not given, what the operator says: -1 for images, 0 for magnitudes",
    )

    def build(self) -> Noise:
        """Return the noise model."""
        from daps_kit.noise import PoissonNoise

        return PoissonNoise(self.peak, self.black)
