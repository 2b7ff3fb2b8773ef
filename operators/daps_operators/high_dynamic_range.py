"""High dynamic range: over-exposure, y = clip(s x, -1, w).

Its derivative is s where -1 <= s x <= w and 0 beyond.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Noise, Operator, Shape

__all__ = ["HighDynamicRange"]

EXCLUDED = 4.0
"""Standard deviations of the noise by which a measurement has to differ from a clipped value to exclude it."""


class HighDynamicRange(Operator):
    """Exposure by `scale`, clipped to [-1, w].

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        scale: s, positive.
        saturation: w, above -1.
    """

    elementwise = True

    def __init__(self, shape: Shape, noise: Noise, scale: float, saturation: float = 1.0) -> None:
        super().__init__(shape, noise)
        self.scale, self.saturation = scale, saturation
        self._low, self._high = torch.tensor(-1.0), torch.tensor(saturation, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Return clip(s x, -1, w)."""
        return (self.scale * x).clamp(self._low.to(x), self._high.to(x))

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return clip(s x, -1, w) and v -> s v where it is not clipped."""
        exposed, low, high = self.scale * x.detach(), self._low.to(x), self._high.to(x)
        slope = ((exposed >= low) & (exposed <= high)).to(x.dtype).mul_(self.scale)
        return exposed.clamp(low, high), lambda v: v * slope

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return s v where it is not clipped; the derivative is diagonal, so it is its own transpose."""
        return self.forward_vjp(x)[1](v)

    def continued(self, y: Tensor) -> Operator:
        """Return s x, clipped only where y may be."""
        room = EXCLUDED * self.noise.std(y)
        straight = copy.copy(self)
        straight._low = torch.where(y - room > -1, -torch.inf, -1.0)
        straight._high = torch.where(y + room < self.saturation, torch.inf, self.saturation)
        return straight
