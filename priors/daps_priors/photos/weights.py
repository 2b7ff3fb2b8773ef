"""Weights of a denoiser of photographs in one file: half precision, with everything a user needs to know as metadata.

The metadata is a JSON object: `format`, `kind` ("photos"), `channels`, `data_range`, `sigma_range`, `network`
(constructor arguments), `calibration` (`sigma`, `mse`, `lowest`, `images`; the table itself is among the tensors, see
`calibration`), `training` (facts of the run), `card` (title, licence, attribution, data, limits) and, where the file
has a head that tells how errors differ from place to place, `head` (see `daps_kit.variance_head`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field

from daps_kit import tensor_file
from daps_kit.variance_head import packed, unpacked
from daps_priors.trained.weights import Count, MeasuredErrors, WeightsDescription, fitting, require_finite

from .calibration import PhotoCalibration
from .denoiser import PhotoDenoiser

RATIO = "calibration.ratio"


class PhotoNetworkDescription(BaseModel, extra="forbid"):
    """Arguments of `PhotoDenoiser` but its channels and range of sigma."""

    widths: tuple[Count, ...] = Field(min_length=1, max_length=12)
    blocks: tuple[Count, ...] = Field(min_length=1, max_length=12)
    embedding: Count


class PhotoErrors(MeasuredErrors):
    """The part of the calibration that is not among the tensors."""

    lowest: float = Field(gt=0, lt=1)


class PhotoDescription(WeightsDescription):
    """What the file says of the denoiser (see above)."""

    WHAT = "the weights of a prior of photographs"
    KIND = "photos"

    kind: Literal["photos"] = "photos"
    channels: Literal[1, 3]
    network: PhotoNetworkDescription
    calibration: PhotoErrors


def half(model: PhotoDenoiser) -> dict[str, torch.Tensor]:
    """Return the weights as they are stored: the few numbers of the linear denoiser in single precision."""
    return {k: v if k.startswith("linear.") else v.half() for k, v in model.state_dict().items()}


def blank(channels: int, **arguments: Any) -> PhotoDenoiser:
    """Return a denoiser whose weights are still to be loaded; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return PhotoDenoiser(channels, **arguments)


def save(
    path: Path,
    model: PhotoDenoiser,
    network: dict[str, Any],
    calibration: PhotoCalibration,
    description: dict[str, Any],
) -> None:
    """Write a denoiser.

    Raises:
        UserError: the file cannot be written.
    """
    basic = PhotoDescription.begin(model.sigma_range) | {
        "channels": model.channels,
        "network": network,
        "calibration": {
            "sigma": calibration.sigma.tolist(),
            "mse": calibration.mse.tolist(),
            "lowest": calibration.lowest,
            "images": calibration.images,
        },
    }
    tensors, said = packed(calibration.local)
    tensor_file.write(path, half(model) | {RATIO: calibration.ratio} | tensors, basic | said | description)


def load(path: Path, device: torch.device) -> tuple[PhotoDenoiser, PhotoCalibration, dict[str, Any]]:
    """Return a denoiser in single precision, ready for inference, how wrong it is, and the metadata.

    Raises:
        UserError: the file is missing, damaged, of another kind or a later format, or its tensors do not fit.
    """
    tensors, description = tensor_file.read(path)
    found = PhotoDescription.of(description, path)
    local = unpacked(tensors, found.head, found.channels, path)
    with fitting(path):
        model = blank(found.channels, **found.network.model_dump(), sigma_range=found.sigma_range)
        ratio = tensors.pop(RATIO)
        model.load_state_dict(tensors)
    table = found.calibration
    if ratio.shape[:2] != (len(table.sigma), found.channels) or ratio.ndim != 3 or ratio.shape[2] < 2:
        raise tensor_file.DamagedFile(f"{path} is damaged: its calibration has the shape {list(ratio.shape)}")
    if not bool((ratio > 0).all()):
        raise tensor_file.DamagedFile(f"{path} is damaged: an error in its calibration is not positive")
    require_finite(path, (*model.state_dict().values(), ratio))
    model.eval().requires_grad_(False).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calibration = PhotoCalibration(
        torch.tensor(table.sigma),
        torch.tensor(table.mse),
        ratio,
        table.lowest,
        model.linear,
        table.images,
        local,
    )
    return model, calibration, description
