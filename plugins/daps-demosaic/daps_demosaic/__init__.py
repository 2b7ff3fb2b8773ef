"""Demosaicing: what daps-kit needs to know of it. Importing this module does not import torch."""

from typing import Literal

from pydantic import Field

from daps_kit.hooks import hookimpl
from daps_kit.settings import OperatorSettings


class Demosaic(OperatorSettings):
    """Demosaicing: one colour is measured at each pixel, through a Bayer colour filter array."""

    name = "demosaic"
    pattern: Literal["RGGB", "BGGR", "GRBG", "GBRG"] = Field("RGGB", description="colours of the 2 x 2 cell")

    def build(self, *, shape, seed, device):
        from .mosaic import Mosaic

        return Mosaic(shape, self.noise.build(), self.pattern)


@hookimpl
def daps_operators():
    return [Demosaic]
