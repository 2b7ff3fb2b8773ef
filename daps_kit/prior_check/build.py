"""Build the prior of a recipe: one that must be told the shape of the images is told that of the data."""

from __future__ import annotations

import torch

from daps_kit.contracts import Prior, Shape
from daps_kit.errors import UserError
from daps_kit.images import load_image
from daps_kit.recipe.data import ImagesData, MeasurementData, PriorData
from daps_kit.settings import PriorSettings

__all__ = ["build_prior"]


def build_prior(
    settings: PriorSettings, data: ImagesData | PriorData | MeasurementData, device: torch.device
) -> Prior:
    """Return the prior; one that must be told the shape of the images is told that of the data.

    Raises:
        UserError: weights are missing or damaged, or nothing says the shape.
    """
    try:
        # A prior that knows its images decides size and channels, and the data follow.
        return settings.build(shape=None, device=device)
    except UserError:
        shape = _shape_of(data)
        if shape is None:
            raise
        return settings.build(shape=shape, device=device)


def _shape_of(data: ImagesData | PriorData | MeasurementData) -> Shape | None:
    if not isinstance(data, ImagesData):
        return data.image_shape
    first = load_image(data.files[0])
    size = data.size or (first.shape[1], first.shape[2])
    height, width = (size, size) if isinstance(size, int) else size
    return len(first), height, width
