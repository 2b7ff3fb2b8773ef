"""A prior of large pictures as a prior of small ones: they are the middle of what it knows.

What the prior diffuses is a picture as large as it takes them, of which the small one is the middle; the rest is never
measured, so that the likelihood does not see it, and the prior alone says what lies there. So nothing is assumed of
what surrounds the small picture: its distribution is the one that the prior has for the middle of its pictures.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from daps_kit.contracts import Covariance, Prior, Shape


class PaddedPrior(Prior):
    """p(x0) of pictures of one size, the middle of larger ones.

    Args:
        outer: the prior of larger pictures.
        shape: (C, H, W) of the pictures.
        padded: (C, H, W) of the larger ones.
    """

    def __init__(self, outer: Prior, shape: Shape, padded: Shape) -> None:
        self.outer, self.shape, self.padded = outer, shape, padded
        self.channels = shape[0]
        self.sigma_range, self.calibration = outer.sigma_range, outer.calibration
        self.linear_decoder = not outer.latent
        margins = [large - small for small, large in zip(shape[1:], padded[1:], strict=True)]
        self._margins = [(margin // 2, margin - margin // 2) for margin in margins]

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma n = x] of the larger pictures (of their latents)."""
        return self.outer.denoise(x, sigma)

    def denoising_covariance(self, sigma: float) -> Covariance | None:
        """Return the covariance of the error, for the larger pictures."""
        known = self.outer if self.outer.latent else self.outer.sized(self.padded)
        return known.denoising_covariance(sigma)

    def state_shape(self, image_shape: Shape) -> tuple[int, ...]:
        """Return the shape of the larger pictures (of their latents)."""
        return self.outer.state_shape(self.padded)

    def encode(self, x: Tensor) -> Tensor:
        """Continue pictures by what lies at their edges."""
        (top, bottom), (left, right) = self._margins
        return self.outer.encode(pad(x, (left, right, top, bottom), mode="replicate"))

    def decode(self, z: Tensor) -> Tensor:
        """Return the middle."""
        (top, _), (left, _) = self._margins
        _, height, width = self.shape or self.padded
        return self.outer.decode(z)[..., top : top + height, left : left + width]
