"""High dynamic range: over-exposure, y = clip(s x, -1, 1).

Its derivative is s where |s x| <= 1 and 0 beyond.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from daps_kit.contracts import Noise, Operator, Shape

__all__ = ["HighDynamicRange"]


class HighDynamicRange(Operator):
    """Exposure by `scale`, clipped to [-1, 1].

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        scale: s, positive.
    """

    def __init__(self, shape: Shape, noise: Noise, scale: float) -> None:
        super().__init__(shape, noise)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return clip(s x, -1, 1)."""
        return (self.scale * x).clamp(-1, 1)

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return clip(s x, -1, 1) and v -> s v where it is not clipped."""
        exposed = self.scale * x.detach()
        slope = (exposed.abs() <= 1).to(x.dtype).mul_(self.scale)
        return exposed.clamp_(-1, 1), lambda v: v * slope

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return s v where it is not clipped; the derivative is diagonal, so it is its own transpose."""
        return self.forward_vjp(x)[1](v)
