"""Trained weights in one file: half precision, with everything a user needs to know as metadata.

The metadata is a JSON object: `format`, `kind` ("denoiser"), `shape` (C, H, W), `data_range`, `sigma_range`, `network`
(constructor arguments), `calibration` (`sigma`, `mse`, `images`: mean squared error of a pixel on images held out of
the training; the error's spectrum is among the tensors, see `daps_kit.calibration`), `training` (facts of the run) and
`card` (title, licence, attribution, data, limits).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from daps_kit.calibration import Calibration
from daps_kit.errors import UserError

from . import tensor_file
from .network import Denoiser, blank, channels_last

FORMAT = 1
KIND = "denoiser"
CALIBRATION = "calibration."
DATA_RANGE = (-1.0, 1.0)
# A handful of numbers over many orders of magnitude, which half precision cannot hold.
FULL_PRECISION = frozenset({"gauss.variances", "gauss.rest", "gauss.details", "gauss.colours"})


def half(model: Denoiser) -> dict[str, torch.Tensor]:
    """Return the weights as they are stored."""
    return {k: v if k in FULL_PRECISION else v.half() for k, v in model.state_dict().items()}


def save(
    path: Path,
    model: Denoiser,
    network: dict[str, Any],
    calibration: Calibration,
    description: dict[str, Any],
) -> None:
    """Write a denoiser in half precision.

    Raises:
        UserError: the file cannot be written.
    """
    basic = {
        "format": FORMAT,
        "kind": KIND,
        "shape": list(model.shape),
        "data_range": list(DATA_RANGE),
        "sigma_range": list(model.sigma_range),
        "network": network | {"components": len(model.gauss.variances)},
        "calibration": {
            "sigma": calibration.sigma.tolist(),
            "mse": calibration.mse.tolist(),
            "images": calibration.images,
        },
    }
    measured = {f"{CALIBRATION}spectrum": calibration.spectrum, f"{CALIBRATION}colours": calibration.colours}
    tensor_file.write(path, half(model) | measured, basic | description)


def load(path: Path) -> tuple[Denoiser, Calibration, dict[str, Any]]:
    """Return a denoiser in single precision, ready for inference, how wrong it is, and the metadata.

    Raises:
        UserError: the file is missing, damaged, of another kind or a later format, or its tensors do not fit.
    """
    tensors, description = tensor_file.read(path)
    if description.get("kind") != KIND:
        raise UserError(
            f"{path} holds a {description.get('kind', 'file of unknown kind')}, not the weights of a {KIND}"
        )
    if description.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {description.get('format')}; this version of daps-kit reads {FORMAT}"
        )
    channels, height, width = description["shape"]
    low, high = description["sigma_range"]
    model = blank((channels, height, width), **description["network"], sigma_range=(low, high))
    table = description["calibration"]
    try:
        calibration = Calibration(
            torch.tensor(table["sigma"]),
            torch.tensor(table["mse"]),
            tensors.pop(f"{CALIBRATION}spectrum"),
            tensors.pop(f"{CALIBRATION}colours"),
            table["images"],
        )
        model.load_state_dict(tensors)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"{path}: the tensors do not fit the network it describes ({_first_line(error)})"
        ) from error
    if not all(bool(torch.isfinite(v).all()) for v in model.state_dict().values()):
        raise UserError(f"{path} holds weights that are not finite numbers: it is damaged")
    return channels_last(model.eval().requires_grad_(False)), calibration, description


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[min(1, len(lines) - 1)]
