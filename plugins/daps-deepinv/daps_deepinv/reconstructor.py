"""The way back: posterior sampling of daps-kit as a deepinv reconstructor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from deepinv.models import Denoiser, Reconstructor
from deepinv.physics import LinearPhysics, Physics
from deepinv.utils import TensorList
from torch import Tensor

from daps_kit import build, sample
from daps_kit.contracts import Prior
from daps_kit.errors import UserError
from daps_kit.random import stream_seed

from .denoiser import TRAINED, DenoiserPrior
from .physics import ImageKind, Images, PhysicsOperator, image_kind, operator_of, try_on

__all__ = ["DAPSReconstructor"]


class DAPSReconstructor(Reconstructor):
    """Draws from p(x | y): `model(y, physics)` is the mean of the samples, `model.sample(y, physics)` all of them.

    The noise is the physics': GaussianNoise, LaplaceNoise, PoissonNoise or PoissonGaussianNoise.

    Args:
        prior: its section as in a recipe, such as {"use": "embedded"}, a prior, or a denoiser of deepinv.
        sampler: its section as in a recipe; {"use": "daps"} where not given.
        runs: samples of each image; their mean approaches the posterior mean as they become more.
        seed: of all that is random: the same seed gives the same samples.
        batch_size: samples drawn at once; all where not given. It changes nothing else.
        image: how the physics takes an image of the prior, as in a recipe ('auto', 'real', ...).
        img_size: (C, H, W) of the images of the prior, where neither it nor the physics knows.
        sigma_range: noise levels that a denoiser knows, on deepinv's scale; known for some.
        device: where the prior lives.

    Raises:
        UserError: a section is wrong, or the noise levels of a denoiser are not known.
    """

    def __init__(
        self,
        prior: Mapping[str, Any] | Prior | Denoiser,
        sampler: Mapping[str, Any] | None = None,
        *,
        runs: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
        image: ImageKind | Literal["auto"] = "auto",
        img_size: tuple[int, int, int] | None = None,
        sigma_range: tuple[float, float] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(device=device)
        if isinstance(prior, Denoiser):
            trained = sigma_range or TRAINED.get(type(prior).__name__)
            if trained is None:
                raise UserError(
                    f"sigma_range: needed, the noise levels that {type(prior).__name__} was trained for"
                )
            prior = DenoiserPrior(prior.to(device), trained)
        self.prior = (
            prior if isinstance(prior, Prior) else build("prior", prior, shape=img_size, device=device)
        )
        self.sampler = build("sampler", sampler or {"use": "daps"})
        self.runs, self.seed, self.batch_size = runs, seed, batch_size
        self.image, self.img_size = image, img_size

    def forward(self, y: Any, physics: Physics, **kwargs: Any) -> Tensor:
        """Return the mean of the samples in [0, 1], as the physics takes images.

        Args:
            y: measurements of the physics, a tensor or TensorList with a batch dimension.
            physics: the forward model, with the noise model of the measurements.
            kwargs: ignored, as deepinv's trainers pass more.
        """
        operator = self._operator(y, physics)
        mean = self._samples(y, operator).mean(1)
        return operator.images.give(mean)

    def sample(self, y: Any, physics: Physics) -> Tensor:
        """Return every sample in [0, 1], [B, runs, C, H, W], as the prior has images."""
        return self._samples(y, self._operator(y, physics))

    def _samples(self, y: Any, operator: PhysicsOperator) -> Tensor:
        measured = operator.from_physics(y)
        given: dict[str, Any] = {"sampler": self.sampler, "batch_size": self.batch_size}
        if operator.count == 1:
            drawn = sample(self.prior, operator, measured, runs=self.runs, seed=self.seed, **given).samples
        else:  # the parameters for each image of the batch want the whole batch, in its order
            given["batch_size"] = None
            seeds = [stream_seed(self.seed, "run", run) for run in range(self.runs)]
            drawn = torch.cat(
                [
                    sample(self.prior, operator, measured, runs=1, seed=seed, **given).samples
                    for seed in seeds
                ],
                1,
            )
        return (drawn + 1) / 2

    def _operator(self, y: Any, physics: Physics) -> PhysicsOperator:
        shape = self.prior.shape or self.img_size
        taken = self._taken(y, physics)
        if shape is None:
            if taken is None:
                raise UserError(
                    "img_size: needed, neither the prior nor the physics says how large images are"
                )
            shape = taken
        kind = self.image
        if kind == "auto":
            real = taken is not None and taken[0] == 2 and shape[0] != 2
            kind = "real" if real else image_kind(physics, shape)
        images = Images(kind, shape)
        alone = try_on(physics, images, torch.zeros(1, *shape, device=self._device_of(y)))
        batches = len(alone[0] if isinstance(alone, TensorList) else alone)
        return operator_of(physics, shape, image=kind, count=batches // images.group)

    @staticmethod
    def _device_of(y: Any) -> torch.device:
        """Return where measurements live."""
        tensor: Tensor = y[0]
        return tensor.device

    def _taken(self, y: Any, physics: Physics) -> tuple[int, int, int] | None:
        """Return (C, H, W) of the images of a physics, by its adjoint; None where it has none."""
        if not isinstance(physics, LinearPhysics):
            return None
        with torch.no_grad():
            channels, height, width = physics.A_adjoint(y).shape[1:]
        return channels, height, width
