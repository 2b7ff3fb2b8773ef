"""High dynamic range: over-exposure, y = clip(s x, -1, w).

Its derivative is s where -1 <= s x <= w and 0 beyond.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Noise, Operator, Shape

__all__ = ["HighDynamicRange"]

EXCLUDED = 4.0
"""Standard deviations of the noise by which a measurement has to differ from a clipped value to exclude it."""

ROUNDED = 0.5
"""Half the width of a rounded corner, in standard deviations of the noise."""


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
        self.kinks = (-1 / scale, saturation / scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return clip(s x, -1, w)."""
        return (self.scale * x).clamp(-1, self.saturation)

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return clip(s x, -1, w) and v -> s v where it is not clipped."""
        exposed = self.scale * x.detach()
        slope = ((exposed >= -1) & (exposed <= self.saturation)).to(x.dtype).mul_(self.scale)
        return exposed.clamp(-1, self.saturation), lambda v: v * slope

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return s v where it is not clipped; the derivative is diagonal, so it is its own transpose."""
        return self.forward_vjp(x)[1](v)

    def continued(self, y: Tensor) -> Operator:
        """Return s x, clipped only where y may be, and with corners that are rounded by the noise: see `_Rounded`."""
        room = EXCLUDED * self.noise.std(y)
        low = torch.where(y - room > -1, -torch.inf, -1.0)
        high = torch.where(y + room < self.saturation, torch.inf, self.saturation)
        return _Rounded(self, low, high, ROUNDED * self.noise.std(y))


class _Rounded(Operator):
    """s x, clipped to [low, high] by a function whose slope falls evenly within `width` of an end.

    Where a slope jumps, which side of it an entry is on is rounding's choice, and so are the steps of a minimisation.

    Args:
        whole: the operator.
        low, high, width: [B, ...].
    """

    elementwise = True

    def __init__(self, whole: HighDynamicRange, low: Tensor, high: Tensor, width: Tensor) -> None:
        super().__init__(whole.shape, whole.noise)
        self.scale, self.low, self.high, self.width = whole.scale, low, high, width

    def forward(self, x: Tensor) -> Tensor:
        """Return s x, clipped."""
        exposed = self.scale * x
        return exposed - self._cut(exposed - self.high) + self._cut(self.low - exposed)

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return s x, clipped, and v -> slope v."""
        exposed = self.scale * x.detach()
        slope = self.scale * (1 - self._share(exposed - self.high) - self._share(self.low - exposed))
        return self.forward(x.detach()), lambda v: v * slope

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return slope v."""
        return self.forward_vjp(x)[1](v)

    def _share(self, beyond: Tensor) -> Tensor:
        return ((beyond / self.width + 1) / 2).clamp(0, 1)

    def _cut(self, beyond: Tensor) -> Tensor:
        """Return the integral of the share: 0 far before an end, and all that lies beyond it far after."""
        return self.width * self._share(beyond).square() + (beyond - self.width).clamp_min(0)
