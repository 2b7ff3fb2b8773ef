"""Settings of the priors that are known in closed form. Importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, Strict, model_validator

from daps_kit.errors import ComponentError
from daps_kit.settings import FilePath, PriorSettings, Shape

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
        from .gaussian import GaussianPrior

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

        from .mixture import MixturePrior

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


def _array(path: Path, device: torch.device) -> torch.Tensor:
    """Read an array of finite numbers as float32."""
    import numpy as np
    import torch

    from daps_kit.arrays import read_numbers

    numbers = read_numbers(path, setting=None)
    if numbers.picture or not np.isfinite(numbers.values).all():
        raise ComponentError(f"{path}: must hold one array of finite real numbers, and is no picture")
    return torch.from_numpy(numbers.values.astype(np.float32)).to(device)


def _check_shape(name: str, prior: Prior, shape: Shape | None) -> None:
    """Refuse a prior over images of another shape than the run's."""
    if prior.shape is not None and shape is not None and prior.shape != tuple(shape):
        raise ComponentError(
            f"prior {name} is over images of shape {list(prior.shape)}, but those of the run have {list(shape)}"
        )
