"""Trained weights in one file: half precision, with everything a user needs to know as metadata.

The metadata is a JSON object: `format`, `kind` ("denoiser"), `shape` (C, H, W), `data_range`, `sigma_range`, `network`
(constructor arguments), `calibration` (`sigma`, `mse`, `images`: mean squared error of a pixel on images held out of
the training; the error's spectrum is among the tensors, see `daps_kit.calibration`), `training` (facts of the run),
`card` (title, licence, attribution, data, limits) and, where the file has a head that tells how errors differ from
place to place, `head` (see `daps_kit.variance_head`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator

from daps_kit import tensor_file
from daps_kit.calibration import CalibrationTable
from daps_kit.errors import UserError
from daps_kit.variance_head import HeadDescription, packed, unpacked

from .network import Denoiser, blank, channels_last
from .unet import FOLD, FREQUENCIES
from .wiener import BANDS

CALIBRATION = "calibration."
DATA_RANGE = (-1.0, 1.0)
# A handful of numbers over many orders of magnitude, which half precision cannot hold.
FULL_PRECISION = frozenset({"gauss.variances", "gauss.rest", "gauss.details", "gauss.colours"})


Count = Annotated[int, Field(ge=1, le=65536)]
Positive = Annotated[float, Field(gt=0)]


class NetworkDescription(BaseModel, extra="forbid"):
    """Arguments of `Denoiser` but its shape and range of sigma; what is not given is the default there."""

    components: Count = 128
    channels: tuple[Count, ...] = Field((32, 64, 128), min_length=1, max_length=12)
    blocks: tuple[Count, ...] = Field((2, 2, 3), min_length=1, max_length=12)
    embedding: Count = 128
    attention: int = Field(2, ge=0)


class MeasuredErrors(BaseModel):
    """The part of the calibration that is not among the tensors."""

    sigma: tuple[Positive, ...] = Field(min_length=2)
    mse: tuple[Positive, ...]
    images: Count

    @model_validator(mode="after")
    def _alike(self) -> MeasuredErrors:
        if len(self.mse) != len(self.sigma) or list(self.sigma) != sorted(set(self.sigma)):
            raise ValueError("sigma must rise, with one mse for each")
        return self


class WeightsDescription(tensor_file.Description):
    """What every file of trained weights says; facts of the training and the card are free."""

    format: Literal[1] = 1
    data_range: tuple[float, float] = DATA_RANGE
    sigma_range: tuple[Positive, Positive]
    training: dict[str, Any] = Field({})
    card: dict[str, str] = Field({})
    head: HeadDescription | None = None

    @classmethod
    def begin(cls, sigma_range: tuple[float, float]) -> dict[str, Any]:
        """Return how what is written begins."""
        return {
            "format": cls.FORMAT,
            "kind": cls.KIND,
            "data_range": list(DATA_RANGE),
            "sigma_range": list(sigma_range),
        }


class DenoiserDescription(WeightsDescription):
    """What the file of a denoiser says of it (see above)."""

    WHAT = "the weights of a denoiser"
    KIND = "denoiser"

    kind: Literal["denoiser"] = "denoiser"
    shape: tuple[Count, Count, Count]
    network: NetworkDescription
    calibration: MeasuredErrors


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Say of what does not fit in here that it does not.

    Raises:
        UserError: a tensor of the file is missing, or has another shape than the network that the file describes.
    """
    try:
        yield
    except (RuntimeError, KeyError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = lines[min(1, len(lines) - 1)]
        raise UserError(f"{path}: the tensors do not fit the network it describes ({reason})") from error


def require_finite(path: Path, tensors: Iterable[torch.Tensor]) -> None:
    """Refuse weights that are not finite.

    Raises:
        UserError: there are such.
    """
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise UserError(f"{path} holds weights that are not finite numbers: it is damaged")


def half(model: Denoiser) -> dict[str, torch.Tensor]:
    """Return the weights as they are stored."""
    return {k: v if k in FULL_PRECISION else v.half() for k, v in model.state_dict().items()}


def save(
    path: Path,
    model: Denoiser,
    network: dict[str, Any],
    calibration: CalibrationTable,
    description: dict[str, Any],
) -> None:
    """Write a denoiser in half precision.

    Raises:
        UserError: the file cannot be written.
    """
    basic = DenoiserDescription.begin(model.sigma_range) | {
        "shape": list(model.shape),
        "network": network | {"components": len(model.gauss.variances)},
        "calibration": {
            "sigma": calibration.sigma.tolist(),
            "mse": calibration.mse.tolist(),
            "images": calibration.images,
        },
    }
    measured = {f"{CALIBRATION}spectrum": calibration.spectrum, f"{CALIBRATION}colours": calibration.colours}
    tensors, said = packed(calibration.local)
    tensor_file.write(path, half(model) | measured | tensors, basic | said | description)


def load(path: Path) -> tuple[Denoiser, CalibrationTable, dict[str, Any]]:
    """Return a denoiser in single precision, ready for inference, how wrong it is, and the metadata.

    Raises:
        UserError: the file is missing, damaged, of another kind or a later format, or its tensors do not fit.
    """
    tensors, description = tensor_file.read(path)
    found = DenoiserDescription.of(description, path)
    local = unpacked(tensors, found.head, found.shape[0], path)
    with fitting(path):
        _compare_sizes(found, tensors)
        model = blank(found.shape, **found.network.model_dump(), sigma_range=found.sigma_range)
        calibration = CalibrationTable(
            torch.tensor(found.calibration.sigma),
            torch.tensor(found.calibration.mse),
            tensors.pop(f"{CALIBRATION}spectrum"),
            tensors.pop(f"{CALIBRATION}colours"),
            found.calibration.images,
            local,
        )
        model.load_state_dict(tensors)
    if problem := calibration.problem():
        raise tensor_file.DamagedFile(f"{path} is damaged: {problem}")
    require_finite(path, model.state_dict().values())
    return channels_last(model.eval().requires_grad_(False)), calibration, description


def _compare_sizes(found: DenoiserDescription, tensors: Mapping[str, torch.Tensor]) -> None:
    """Hold the sizes of a network against the file's tensors, before memory is taken for them.

    Raises:
        ValueError: they are not those of the tensors.
        KeyError: a tensor that tells a size is missing.
    """
    (channels, height, width), network = found.shape, found.network
    expected = {
        "gauss.mean": found.shape,
        "gauss.basis": (channels * height * width // BANDS, network.components),
        "unet.embed.0.weight": (network.embedding, 2 * len(FREQUENCIES)),
    }
    for level, size in enumerate(network.channels):
        expected[f"unet.maps.{level}"] = (1, size, height // (FOLD << level), width // (FOLD << level))
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} has the shape {list(tensors[name].shape)}, not {list(shape)}")
    if sum(network.blocks) + network.attention > len(tensors):
        raise ValueError(f"{sum(network.blocks)} blocks and {network.attention} layers of attention")
