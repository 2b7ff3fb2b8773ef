"""The priors that ship with daps-kit: their settings, and how the host finds them.

Importing this module does not import torch; each `build` imports what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict, model_validator

from daps_kit.errors import ComponentError
from daps_kit.hooks import hookimpl
from daps_kit.settings import FilePath, PriorSettings, Shape, TrainerSettings
from daps_kit.sources import Source

from .photos.settings import shipped
from .published.latent_settings import LDM, Diffusers, StableDiffusion
from .published.pixel_settings import DDPM
from .published.sources import SOURCES
from .training.settings import TrainDenoiser

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from daps_kit.contracts import Prior

Positive = Annotated[float, Field(gt=0)]
Numbers = Annotated[tuple[float, ...], Field(min_length=1), Strict(False)]
Positives = Annotated[tuple[Positive, ...], Field(min_length=1), Strict(False)]


class Gaussian(PriorSettings):
    """A Gaussian, whose denoiser and whose posteriors with linear operators are known exactly."""

    name = "gaussian"
    mean: float | FilePath = Field(
        0.0, description="a number for all pixels, or a .npy file of one image [C, H, W]"
    )
    std: Positive | FilePath | None = Field(
        None,
        description="standard deviation: a number, or a .npy file [C, H, W]; 0.5 where neither is given",
    )
    covariance: FilePath | None = Field(
        None, description=".npy file with the covariance matrix [d, d] of flattened images, in place of std"
    )

    @model_validator(mode="after")
    def _one_spread(self) -> Self:
        if self.std is not None and self.covariance is not None:
            raise ValueError("give std or covariance, not both")
        return self

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.ComponentError: a file that is damaged, or does not fit the others or the shape.
        """
        from .exact.gaussian import GaussianPrior

        mean = self.mean if isinstance(self.mean, float | int) else _array(self.mean, device)
        if self.covariance is not None:
            prior = GaussianPrior(mean, covariance=_array(self.covariance, device))
        else:
            std = 0.5 if self.std is None else self.std
            prior = GaussianPrior(mean, std if isinstance(std, float | int) else _array(std, device))
        _check_shape("gaussian", prior, shape)
        return prior


class Mixture(PriorSettings):
    """A mixture of Gaussians, of whole images or of each pixel by itself, whose denoiser is known exactly."""

    name = "mixture"
    means: Numbers | FilePath = Field(
        (-0.6, 0.6), description="means: a list of numbers (constant images), or a .npy file [K, C, H, W]"
    )
    std: Positive | Positives = Field(
        0.2, description="standard deviation of the components: a number, or a list with one for each"
    )
    weights: Positives | None = Field(None, description="weights of the components; equal where not given")
    elementwise: bool = Field(
        False,
        description="whether every pixel chooses its component by itself; otherwise an image chooses one",
    )

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.ComponentError: a file that is damaged, or numbers that do not fit each other or the shape.
        """
        import torch

        from .exact.mixture import MixturePrior

        def numbers(values: float | tuple[float, ...]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        means = _array(self.means, device) if isinstance(self.means, Path) else numbers(self.means)
        std = numbers(self.std)
        if std.ndim and len(std) != len(means):
            raise ComponentError(
                f"prior mixture: {len(means)} components need {len(means)} std, got {len(std)}"
            )
        weights = None if self.weights is None else numbers(self.weights)
        prior = MixturePrior(means, std, weights, elementwise=self.elementwise)
        _check_shape("mixture", prior, shape)
        return prior


class _DenoiserSettings(PriorSettings):
    """How a trained denoiser computes."""

    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="what convolutions compute in: bfloat16 is as exact, and up to twice as fast where the processor "
        "has it",
    )
    compile: bool = Field(
        False, description="compile the network (torch.compile): a slow start, then faster on GPUs"
    )


class Trained(_DenoiserSettings):
    """A denoiser trained by `daps-kit train`."""

    name = "trained"
    path: FilePath = Field(description="the .safetensors file of its weights")
    calibration: FilePath | None = Field(
        None,
        description="measured errors, as `daps-kit calibrate` writes them; in place of its own",
    )

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the file is damaged, or its images have another shape.
        """
        from daps_kit import tensor_file
        from daps_kit.calibration import calibrated

        from .photos.prior import load_photos
        from .photos.weights import PhotoDescription
        from .trained.prior import load_trained

        if tensor_file.read(self.path)[1].get("kind") == PhotoDescription.KIND:
            if self.compile or self.calibration:
                raise ComponentError(
                    f"{self.path} is a prior of photographs: it takes no compile and no calibration"
                )
            return load_photos(self.path, shape=shape, device=device, dtype=self.dtype)
        prior = load_trained(self.path, shape=shape, device=device, dtype=self.dtype, compile=self.compile)
        return calibrated(prior, self.calibration)


class Embedded(_DenoiserSettings):
    """The prior that ships with the package: portraits of 64 x 64 pixels."""

    name = "embedded"
    weights: Literal["portraits64"] = Field(
        "portraits64", description="which of the priors that ship with the package"
    )

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the images of the run have another shape.
        """
        from .trained.prior import load_embedded

        return load_embedded(self.weights, shape=shape, device=device, dtype=self.dtype, compile=self.compile)


def _array(path: Path, device: torch.device) -> torch.Tensor:
    """Read a .npy file of finite numbers as float32."""
    import numpy as np
    import torch

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ComponentError(f"{path}: not a .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ComponentError(f"{path}: must hold one array of finite real numbers")
    return torch.from_numpy(array.astype(np.float32)).to(device)


def _check_shape(name: str, prior: Prior, shape: Shape | None) -> None:
    """Refuse a prior over images of another shape than the run's."""
    if prior.shape is not None and shape is not None and prior.shape != tuple(shape):
        raise ComponentError(
            f"prior {name} is over images of shape {list(prior.shape)}, but those of the run have {list(shape)}"
        )


@hookimpl
def daps_priors() -> Iterable[type[PriorSettings]]:
    """Return the settings of the priors of this package."""
    return [Gaussian, Mixture, Trained, Embedded, *shipped(), DDPM, LDM, StableDiffusion, Diffusers]


@hookimpl
def daps_trainers() -> Iterable[type[TrainerSettings]]:
    """Return the settings of the trainers of this package."""
    return [TrainDenoiser]


@hookimpl
def daps_checkpoints() -> Iterable[Source]:
    """Return where published weights of these priors can be fetched."""
    return SOURCES
