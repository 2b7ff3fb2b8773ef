"""Where a run computes, and how much at once."""

from __future__ import annotations

import math

import torch

from daps_kit.errors import UserError
from daps_kit.shape import Shape

__all__ = ["batch_of", "device_of", "devices_of"]


def device_of(name: str) -> torch.device:
    """Return the device of a recipe's `device`.

    Raises:
        UserError: it cannot be used here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        float(torch.zeros((), device=device))  # `meta` has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"device: '{name}' cannot be used here ({reason}); auto takes what there is"
        ) from None
    return device


def devices_of(device: torch.device) -> int:
    """Return how many devices like this there are for several workers; 0 for processor cores."""
    if device.type == "cpu":
        return 0
    return torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1


def batch_of(shape: Shape, device: torch.device) -> int:
    """Return how many images of a shape to sample at once; it is halved where memory does not suffice."""
    values = math.prod(shape)
    if device.type == "cuda":
        # A large diffusion network holds some 1000 numbers for each of the image's.
        free, _ = torch.cuda.mem_get_info(device)
        return int(min(64, max(1, 0.7 * free / (4000 * values))))
    return min(16, max(1, 16 * 3 * 64 * 64 // values))
