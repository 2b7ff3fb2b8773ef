"""The denoiser of photographs as a prior of pictures of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import Prior
from daps_kit.errors import UserError
from daps_kit.settings import Shape
from daps_priors.precision import Dtype, chosen

from . import weights
from .calibration import PhotoCalibration
from .denoiser import PhotoDenoiser


class PhotoPrior(Prior):
    """p(x0) of photographs, by its denoiser; valid at any size from 8 x 8 up and at any positive sigma.

    Args:
        model: the network.
        calibration: its errors, measured on pictures held out of the training.
        description: what the file says of it (see `weights`).
        dtype: what convolutions compute in; `auto` is bfloat16 where the device has it.
        pixels: computed at once; see `PhotoDenoiser`.
    """

    calibration: PhotoCalibration

    def __init__(
        self,
        model: PhotoDenoiser,
        calibration: PhotoCalibration,
        description: dict[str, Any],
        *,
        dtype: Dtype = "auto",
        pixels: int | None = None,
    ) -> None:
        self.model, self.calibration, self.description = model, calibration, description
        self.channels = model.channels
        self.dtype, self.pixels = dtype, pixels

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma n = x], [B, C, H, W], differentiable by x.

        Raises:
            UserError: the pictures are too small, or have another number of channels.
        """
        require_fit(x.shape[1:], self.model)
        level = torch.as_tensor(sigma, dtype=torch.float32, device=x.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            denoised: Tensor = self.model(
                x.float(), level, dtype=chosen(self.dtype, x.device), pixels=self.pixels
            )
        return denoised.to(x.dtype)


def require_fit(shape: torch.Size | Shape, model: PhotoDenoiser) -> None:
    """Refuse pictures that the denoiser cannot take.

    Raises:
        UserError: they are too small, or have another number of channels.
    """
    channels, height, width = shape
    if channels != model.channels:
        kind = "grey" if model.channels == 1 else "colour"
        raise UserError(
            f"the prior knows {kind} pictures of {model.channels} channel(s), but those of the run have {channels}"
        )
    if min(height, width) < model.least:
        raise UserError(
            f"the prior takes pictures from {model.least} x {model.least} pixels up, but those of the run have "
            f"{height} x {width}"
        )


def load_photos(
    path: Path, *, shape: Shape | None, device: torch.device, dtype: Dtype = "auto", head: bool = True
) -> PhotoPrior:
    """Return the prior in a file of weights.

    Args:
        path: a .safetensors file written by the trainer `photos`.
        shape: (C, H, W) of the images of the run; None where any will do.
        device: where to compute.
        dtype: see `PhotoPrior`.
        head: whether it is to tell what it leaves open in the picture at hand, where the file says how.

    Raises:
        UserError: the file is missing or damaged, or the images do not fit.
    """
    model, calibration, description = weights.load(path, device)
    if shape is not None:
        require_fit(shape, model)
    if not head:
        calibration = replace(calibration, local=None)
    return PhotoPrior(model, calibration, description, dtype=dtype)
