"""Settings that trainings of denoisers have in common. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, Strict

if TYPE_CHECKING:
    from .state import Optimisation

Probability = Annotated[float, Field(ge=0, le=1)]

Widths = Annotated[
    tuple[Annotated[int, Field(ge=8, multiple_of=8)], ...], Strict(False), Field(min_length=1, max_length=6)
]
Blocks = Annotated[
    tuple[Annotated[int, Field(ge=1, le=8)], ...],
    Strict(False),
    Field(
        min_length=1,
        max_length=6,
        description="residual blocks at each resolution, on the way down and up",
    ),
]

LearningRate = Annotated[
    float, Field(gt=0, description="peak of the learning rate, which ends at zero (cosine)")
]
WeightDecay = Annotated[float, Field(ge=0, description="decoupled weight decay")]
Clip = Annotated[float, Field(gt=0, description="largest norm of the gradient")]
AverageWidth = Annotated[
    float, Field(gt=0, lt=0.25, description="width of the weights' average, relative to the time trained")
]
BFloat16 = Annotated[
    bool,
    Field(
        description="compute convolutions in bfloat16: faster where the processor has it, slower where not"
    ),
]
CheckpointSeconds = Annotated[float, Field(gt=0, description="seconds between two checkpoints")]


def require_one_number_each(name: str, widths: Sequence[int], blocks: Sequence[int]) -> None:
    """Refuse a U-Net that has not as many numbers of blocks as widths.

    Args:
        name: of the setting of the widths.
        widths, blocks: at each resolution.

    Raises:
        ValueError: there are more of one than of the other.
    """
    if len(widths) != len(blocks):
        raise ValueError(f"{name} has {len(widths)} resolutions, blocks has {len(blocks)}")


def optimisation(settings: object) -> Optimisation:
    """Return how weights are moved, out of settings of a training with a field for each part of it."""
    from .state import Optimisation

    return Optimisation(**{field.name: getattr(settings, field.name) for field in fields(Optimisation)})
