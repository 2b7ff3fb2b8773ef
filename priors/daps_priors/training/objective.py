r"""What a training minimises: the squared error in units of the best linear denoiser's,

    E_{x0, n, sigma}  |D(x0 + sigma n, sigma) - x0|^2 / e(sigma)^2 = |U - (x0 - D_G) / e|^2,

averaged over noise levels, for a network D = D_G + e U; a teacher's guess takes the place of x0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .teacher import Teacher

__all__ = ["DenoisingError", "Examples", "Objective", "Residual"]


class Objective(Protocol):
    """What is minimised. Workers get a copy each, so it must be picklable; tensors in it are shared between them."""

    def loss(self, model: nn.Module, step: int, rank: int) -> Tensor:
        """Return the mean loss of worker `rank` in a step, a differentiable number that depends on nothing else."""
        ...


class Examples(Protocol):
    """Where the examples of a step come from, such as `Batches`."""

    def draw(self, step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a worker's share of a step: x0 [B, C, H, W], sigma [B] and x0 + sigma n."""
        ...


class Residual(Protocol):
    """A network that corrects a linear denoiser, such as `Denoiser`."""

    def parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return D_G(x, sigma), U and e(sigma) [B, 1, 1, 1]."""
        ...


@dataclass(frozen=True)
class DenoisingError:
    """The loss above.

    Attributes:
        examples: of every step.
        teacher: whose guesses are learned in place of the clean images, if any.
        device: where to compute.
        bfloat16: whether products are computed in bfloat16.
    """

    examples: Examples
    teacher: Teacher | None = None
    device: str = "cpu"
    bfloat16: bool = False

    def loss(self, model: nn.Module, step: int, rank: int) -> Tensor:
        """Return the mean loss of a worker's share (see `Objective`); the model is a `Residual`."""
        residual: Residual = model  # type: ignore[assignment]
        x0, sigma, x = (part.to(self.device) for part in self.examples.draw(step, rank))
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16):
            if self.teacher is not None:
                x0 = self.teacher.denoise(x, sigma)
            linear, correction, error = residual.parts(x, sigma)
        return (correction - (x0 - linear) / error).square().mean()
