r"""What an operator makes of the coarsest patterns, kept to tell the inverse of a measurement's covariance.

At a high noise level the covariance C of an image is large in a few coarse patterns, the cosine functions of low
frequency, and small in all others. Where an operator mixes frequencies, conjugate gradients for S = A C A^T + v I spend
most of their steps on these few. With C = F + L, L that of the lowest K functions d_k, and E, easy to invert, in place
of A F A^T + v I,

    S^{-1} ~ (E + U U^T)^{-1} = E^{-1} - E^{-1} U (I + U^T E^{-1} U)^{-1} U^T E^{-1},    U = (A d_k sqrt(L_k))_k,

which costs two products with U. A must act on each colour by itself and on all alike; so rotated colours stay apart.

Source: Woodbury's identity; as a preconditioner: Frank and Vuik, "On the construction of deflation-based
preconditioners", SIAM J. Sci. Comput. 23 (2001).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.covariance import cosine_inverse

__all__ = ["LowModes"]

SIDE = 14
"""Frequencies kept along each side."""

LARGEST = 2**17
"""Pixels up to which they are kept: the coarsest patterns of larger pictures are too few to matter."""

STEEP = 20
"""Ratio of the largest variance to the noise's from which it pays."""


class LowModes:
    """The images under an operator of the cosine functions of lowest frequency.

    Args:
        forward: A, [B, C, H, W] -> [B, C, h, w], each channel by itself and all alike.
        shape: (C, H, W) of the images.
        batch: how many samples have an operator of their own; 1 where one serves all.
        basis: an orthonormal transform of measurements [..., h, w] to the basis in which E is diagonal.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        shape: tuple[int, int, int],
        batch: int = 1,
        basis: Callable[[Tensor], Tensor] = lambda y: y,
    ) -> None:
        channels, height, width = shape
        self.rows, self.columns = min(SIDE, height // 2), min(SIDE, width // 2)
        count = self.rows * self.columns
        modes = torch.zeros(-(-count // channels) * channels, height, width)
        place = torch.arange(count)
        modes[place, place // self.columns, place % self.columns] = 1
        groups = cosine_inverse(modes).reshape(-1, 1, channels, height, width)
        images = [basis(forward(group.expand(batch, -1, -1, -1))) for group in groups]
        self._images = torch.cat(images, dim=1)[:, :count].flatten(2)  # [batch, K, h w]

    @staticmethod
    def pay(power: Tensor, variance: float) -> bool:
        """Return whether they make conjugate gradients faster.

        Args:
            power: the variances of C in the cosine basis of the image, [C, H, W].
            variance: that of the noise, v.
        """
        return power[0].numel() <= LARGEST and float(power.max()) > STEEP * variance

    def excess(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Split the variances of C into those of the low functions, [C, K], and the rest [C, H, W].

        Args:
            power: [C, H, W].
        """
        rest = power.clone()
        rest[:, : self.rows, : self.columns] = 0
        return power[:, : self.rows, : self.columns].flatten(1), rest

    def inverse(self, above: Tensor, gain: Tensor) -> Callable[[Tensor], Tensor]:
        """Return (E + U U^T)^{-1} as a function of measurements in the basis of E, [B, C, h, w].

        Args:
            above: L, [C, K].
            gain: the diagonal of E^{-1}, positive, that broadcasts with [batch, C, h w].
        """
        images = self._images.to(above)
        root = above.sqrt()
        grams = []
        for colour in range(len(above)):
            inside = (images * gain[:, colour, None]) @ images.mT
            grams.append(root[colour, :, None] * inside * root[colour])
        gram = torch.stack(grams, dim=1)  # [batch, C, K, K]
        gram.diagonal(dim1=-2, dim2=-1).add_(1)
        core = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        u = images[0] if len(images) == 1 else images

        def apply(y: Tensor) -> Tensor:
            scaled = gain * y.flatten(2)
            along = core @ (root * (scaled @ u.mT))[..., None]
            return (scaled - gain * ((root * along[..., 0]) @ u)).reshape(y.shape)

        return apply
