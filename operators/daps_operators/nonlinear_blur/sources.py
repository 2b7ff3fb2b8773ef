"""Where the published weights of the nonlinear blur can be fetched."""

from __future__ import annotations

from daps_kit.sources import Source

__all__ = ["PUBLISHED"]

PUBLISHED = Source(
    name="bkse",
    file="GOPRO_wVAE.pth",
    kind="drive",
    location="1vRoDpIsrTRYZKsOMPNbPcMtFDpCT6Foy",
    about="the network of nonlinear_blur, an operator",
)
