"""Finished weights as a teacher: another network learns their denoised images in place of the clean ones.

The clean image is a noisy target: it is one of all the x0 that x_t may come from, and the teacher's guess is their mean
already. So little noise is left in the gradient, and what the teacher learnt by heart of single images is smoothed out.
Where images are mirrored in training, the target is the mean of the guess for x_t and the mirrored guess for the
mirrored x_t, which is more exact than either; the pupil comes near it by one call.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, for learning from
an ensemble.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.settings import Shape
from daps_priors.trained import weights
from daps_priors.trained.network import Denoiser, channels_last

__all__ = ["Teacher"]


class Teacher:
    """A denoiser that is learned from.

    Args:
        model: the denoiser.
        mirror: whether the mirrored image is asked about, too.
    """

    def __init__(self, model: Denoiser, mirror: bool) -> None:
        self._model, self._mirror = channels_last(model).requires_grad_(False), mirror

    @classmethod
    def load(cls, path: Path, shape: Shape, *, mirror: bool, device: str = "cpu") -> Teacher:
        """Return the teacher in a file of weights, for images of shape (C, H, W).

        Raises:
            UserError: the file cannot be used, or is of images of another shape.
        """
        model = weights.load(path)[0]
        if model.shape != tuple(shape):
            raise UserError(
                f"the teacher {path} knows images of shape {list(model.shape)} (channels, height, width), but those of "
                f"the training have {list(shape)}"
            )
        return cls(model.to(device), mirror)

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the target for x [B, C, H, W] at sigma [B]."""
        if not self._mirror:
            return self._model(x, sigma)  # type: ignore[no-any-return]
        plain, mirrored = self._model(torch.cat((x, x.flip(-1))), torch.cat((sigma, sigma))).chunk(2)
        return (plain + mirrored.flip(-1)) / 2  # type: ignore[no-any-return]
