"""A prior trained by this package: a file of weights as the denoiser of a sampler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from daps_kit.calibration import CalibrationTable
from daps_kit.contracts import Prior
from daps_kit.errors import UserError
from daps_kit.settings import Shape
from daps_priors.precision import Dtype, chosen

from . import weights
from .network import Denoiser

WEIGHTS = Path(__file__).parents[1] / "weights"
ANY_SIZE = "change their size, or use `prior: {use: photos}`, which takes pictures of any size"
EMBEDDED = WEIGHTS / "portraits64.safetensors"


def weights_file(name: Path | Literal["embedded"]) -> Path:
    """Return the file of weights that a recipe names: a path, or those that ship with the package."""
    return EMBEDDED if name == "embedded" else Path(name)


class TrainedPrior(Prior):
    """p(x0) of the images a network was trained on, by its denoiser; valid at any positive sigma.

    Args:
        model: the network.
        calibration: its errors, measured on images held out of the training.
        description: what the file says of it (see `weights`).
        dtype: what products compute in, `auto` being bfloat16 where the device has it; what is summed from them stays
            in single precision.
        compile: whether the network is compiled (torch.compile).
    """

    shape: Shape
    calibration: CalibrationTable

    def __init__(
        self,
        model: Denoiser,
        calibration: CalibrationTable,
        description: dict[str, Any],
        *,
        dtype: Dtype = "float32",
        compile: bool = False,
    ) -> None:
        self.model, self.dtype = model, dtype
        self._call = torch.compile(model) if compile else model
        self.calibration = calibration
        self.description = description
        self.shape = model.shape

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma n = x], [B, C, H, W], differentiable by x."""
        if x.shape[1:] != self.shape:
            raise UserError(f"the prior knows images of shape {list(self.shape)}, not {list(x.shape[1:])}")
        level = torch.as_tensor(sigma, dtype=torch.float32, device=x.device)
        dtype = chosen(self.dtype, x.device)
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad),
            torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32),
        ):
            denoised: Tensor = self._call(x.float(), level)
        return denoised.to(x.dtype)


def load_trained(
    path: Path,
    *,
    shape: Shape | None,
    device: torch.device,
    dtype: Dtype = "float32",
    compile: bool = False,
    advice: str = "change their size, or train a prior for it",
) -> TrainedPrior:
    """Return the prior in a file of weights.

    Args:
        path: a .safetensors file written by `daps-kit train`.
        shape: (C, H, W) of the images of the run; None where any will do.
        device: where to compute.
        dtype, compile: see `TrainedPrior`.
        advice: what to do with images of another shape.

    Raises:
        UserError: the file is missing or damaged, or its images have another shape.
    """
    model, calibration, description = weights.load(path)
    if shape is not None and tuple(shape) != model.shape:
        raise UserError(
            f"the prior {path.name} knows images of shape {list(model.shape)} (channels, height, width), but those of "
            f"the run have {list(shape)}: {advice}"
        )
    prior = TrainedPrior(model.to(device), calibration, description, dtype=dtype, compile=compile)
    prior.advice = advice
    return prior


def load_embedded(name: str, *, head: bool = True, **arguments: Any) -> TrainedPrior:
    """Return the prior of this name that ships with the package.

    Args:
        name: of the weights.
        head: whether it is to know at which places its error is large.
        arguments: those of `load_trained`.
    """
    prior = load_trained(WEIGHTS / f"{name}.safetensors", **arguments, advice=ANY_SIZE)
    if not head:
        prior.calibration = replace(prior.calibration, local=None)
    return prior
