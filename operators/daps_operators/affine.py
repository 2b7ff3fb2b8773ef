"""Affine intensities, y = s x + o: the exposure of a picture and what a sensor adds to every pixel."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from daps_kit.contracts import Covariance, LinearOperator, Noise, Operator, Shape
from daps_kit.covariance import CosineCovariance
from daps_kit.linalg import per_sample

__all__ = ["Affine", "Gain"]


class Gain(LinearOperator):
    """y = s x.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        scale: s, positive.
    """

    elementwise = True

    def __init__(self, shape: Shape, noise: Noise, scale: float) -> None:
        self.scale = scale
        super().__init__(shape, noise)

    def forward(self, x: Tensor) -> Tensor:
        """Return s x."""
        return self.scale * x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return s y."""
        return self.scale * y

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return b / (s^2 + weight)."""
        return b / (self.scale**2 + per_sample(weight, b))

    def spectrum(self, covariance: Covariance) -> Tensor | None:
        """Return s^2 P."""
        return self.scale**2 * covariance.power if isinstance(covariance, CosineCovariance) else None


class Affine(Operator):
    """y = s x + o.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        scale: s, positive.
        offset: o.
    """

    elementwise = True

    def __init__(self, shape: Shape, noise: Noise, scale: float, offset: float) -> None:
        self.scale, self.offset = scale, offset
        super().__init__(shape, noise)

    @property
    def linear_part(self) -> Gain:
        """s x."""
        return Gain(self.shape, self.noise, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return s x + o."""
        return self.scale * x + self.offset

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return s x + o and v -> s v."""
        return self.forward(x.detach()), lambda v: self.scale * v

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return s v."""
        return self.scale * v
