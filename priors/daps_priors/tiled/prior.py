r"""A prior of one size as a prior of larger pictures: its denoiser over windows of the picture.

With windows W_k, the denoiser D of one and weights w_k that fall to zero at the borders of a window,

    D(x, sigma) = sum_k w_k D(x restricted to W_k, sigma) / sum_k w_k.

The windows lie on a grid whose place is drawn anew for each noise level, a function of it: no border stays where it is
while a sampler passes its levels, so that no seam settles. What a sampler draws given the measurement it draws for the
whole picture; the windows are the prior's alone.

Of a latent prior the windows are of latents, and its first stage is tiled the same way, by windows that stay: a decoder
with attention sees what it was trained on. Its gradient goes by one batch of windows at a time.

What is left open of x0 is that of a window, by frequency in cycles a pixel, where the prior of a window knows it: below
one half of a cycle a window it is what it is there.

Source: Hu et al., "Learning Image Priors through Patch-based Diffusion Models for Solving Inverse Problems", NeurIPS
2024, arXiv 2406.02462, for the shifted grid; there windows touch, here they overlap and are weighted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from daps_kit.calibration import CalibrationTable
from daps_kit.contracts import Prior, Shape
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import UserError
from daps_kit.variance_head import LocalErrors


@dataclass(frozen=True)
class WindowCalibration:
    """The calibration of a window's prior for larger pictures.

    Attributes:
        window: the calibration of a window.
        size: of a window.
    """

    window: CalibrationTable
    size: tuple[int, int]

    @property
    def sigma(self) -> Tensor:
        """Noise levels, rising, [S]."""
        return self.window.sigma

    @property
    def mse(self) -> Tensor:
        """Mean squared error of a pixel at each, [S]."""
        return self.window.mse

    @property
    def local(self) -> LocalErrors | None:
        """How the errors differ from place to place; None where that is not known."""
        return self.window.local

    def covariance(self, sigma: float, height: int, width: int) -> CosineCovariance:
        """Return the covariance at a noise level, for pictures of this size."""
        return self.window.covariance(sigma, height, width, measured=self.size)


class TiledPrior(Prior):
    """p(x0) of pictures of any size from that of a window up.

    Args:
        window_prior: the prior of a window, over pixels.
        window: (height, width) of a window.
        overlap: pixels that windows share with their neighbours, less than a side.
        batch_size: windows denoised at once.
    """

    def __init__(
        self, window_prior: Prior, window: tuple[int, int], overlap: int, *, batch_size: int = 8
    ) -> None:
        self.window_prior, self.window, self.overlap = window_prior, window, overlap
        self.batch_size = batch_size
        self.channels = window_prior.shape[0] if window_prior.shape else window_prior.channels
        self.sigma_range = window_prior.sigma_range
        measured = window_prior.calibration
        if window_prior.shape is None:
            self.calibration = measured
        elif isinstance(measured, CalibrationTable):
            self.calibration = WindowCalibration(measured, window)

    def require_fit(self, shape: Sequence[int]) -> None:
        """Refuse pictures [C, H, W] smaller than a window, or with another number of channels.

        Raises:
            UserError: they are.
        """
        channels, *size = shape
        if self.channels is not None and channels != self.channels:
            raise UserError(
                f"the prior knows pictures of {self.channels} channel(s), but those of the run have {channels}"
            )
        if any(n < side for n, side in zip(size, self.window, strict=True)):
            given, side = (" x ".join(map(str, part)) for part in (size, self.window))
            raise UserError(f"the pictures of the run are {given}: smaller than a window, {side}")

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma n = x] by windows, [B, C, H, W].

        Raises:
            UserError: the pictures are smaller than a window.
        """
        self._require_whole(x)
        levels = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(len(x))
        distinct = torch.unique(levels)
        if len(distinct) == 1:
            return self._at(x, distinct[0])
        return torch.cat([self._at(x[b : b + 1], level) for b, level in enumerate(levels)])

    def _require_whole(self, x: Tensor) -> None:
        """Refuse what is smaller than a window."""
        self.require_fit(x.shape[1:])

    def _at(self, x: Tensor, level: Tensor) -> Tensor:
        """Return D(x, sigma) at one noise level."""
        return self._by_windows(
            x, lambda parts: self.window_prior.denoise(parts, level), self._places(x.shape[-2:], float(level))
        )

    def _by_windows(
        self,
        x: Tensor,
        apply: Callable[[Tensor], Tensor],
        places: tuple[list[int], list[int]],
        *,
        larger: int = 1,
        smaller: int = 1,
        window: tuple[int, int] | None = None,
        overlap: int | None = None,
    ) -> Tensor:
        """Apply a map to windows of x [B, ...] and join what it gives.

        Args:
            x: what is cut.
            apply: of windows [b, C, h, w], to what is `larger` or `smaller` times as large along a side.
            places: where windows begin along both axes.
            larger, smaller: by how much what comes out is larger or smaller; one of them is 1.
            window, overlap: of x; those of the prior's state where not given.
        """
        height, width = window or self.window
        overlap = self.overlap if overlap is None else overlap

        def out(n: int) -> int:
            return n * larger // smaller

        weight = ramp(out(height), out(overlap))[:, None] * ramp(out(width), out(overlap))
        weight = weight.to(x)
        corners = list(itertools.product(*places))
        total = x.new_zeros(out(x.shape[-2]), out(x.shape[-1]))
        for top, left in corners:
            total[out(top) : out(top + height), out(left) : out(left + width)] += weight
        joined: Tensor | None = None
        windows = [(b, top, left) for b in range(len(x)) for top, left in corners]
        for first in range(0, len(windows), self.batch_size):
            chunk = windows[first : first + self.batch_size]
            parts = torch.stack([x[b, :, top : top + height, left : left + width] for b, top, left in chunk])
            if torch.is_grad_enabled() and parts.requires_grad:
                done = checkpoint(apply, parts, use_reentrant=False)
            else:
                done = apply(parts)
            if joined is None:
                joined = x.new_zeros(len(x), done.shape[1], *total.shape)
            for (b, top, left), part in zip(chunk, done, strict=True):
                joined[b, :, out(top) : out(top + height), out(left) : out(left + width)] += weight * part
        assert joined is not None
        return joined / total

    def _places(self, size: Sequence[int], sigma: float) -> tuple[list[int], list[int]]:
        """Return where windows begin at a noise level, along both axes."""
        key = np.frombuffer(np.float32(sigma).tobytes(), dtype=np.uint32)
        rng = np.random.default_rng(key)
        down, across = (
            starts(n, side, side - self.overlap, int(rng.integers(side - self.overlap)))
            for n, side in zip(size, self.window, strict=True)
        )
        return down, across


class TiledLatentPrior(TiledPrior):
    """The same of a latent prior: windows of latents.

    Args:
        window_prior: the latent prior, of images of one size.
        overlap: pixels of the image that windows share with their neighbours; rounded down to latents.
        batch_size: windows computed at once.
    """

    def __init__(self, window_prior: Prior, overlap: int, *, batch_size: int = 8) -> None:
        assert window_prior.shape is not None
        height, width = window_prior.state_shape(window_prior.shape)[-2:]
        self.factor = window_prior.shape[1] // height
        super().__init__(window_prior, (height, width), overlap // self.factor, batch_size=batch_size)

    def require_fit(self, shape: Sequence[int]) -> None:
        """Refuse pictures [C, H, W] smaller than a window, with other channels, or between two latents.

        Raises:
            UserError: they are.
        """
        channels, *size = shape
        if any(n % self.factor for n in size):
            given = " x ".join(map(str, size))
            raise UserError(
                f"the pictures of the run are {given}; allowed: sides divisible by {self.factor}, which is what a "
                "latent of this prior covers"
            )
        super().require_fit((channels, *(n // self.factor for n in size)))

    def state_shape(self, image_shape: Shape) -> tuple[int, ...]:
        """Return the shape of the latents of images of `image_shape`."""
        return self.window_prior.state_shape(image_shape)

    def _require_whole(self, x: Tensor) -> None:
        assert all(n >= side for n, side in zip(x.shape[-2:], self.window, strict=True))

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents of images [B, C, H, W], [B, c, H / f, W / f]."""
        places = self._fixed([n // self.factor for n in x.shape[-2:]])
        height, width = (self.factor * side for side in self.window)
        return self._by_windows(
            x,
            self.window_prior.encode,
            ([self.factor * n for n in places[0]], [self.factor * n for n in places[1]]),
            smaller=self.factor,
            window=(height, width),
            overlap=self.factor * self.overlap,
        )

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents [B, c, h, w], [B, C, f h, f w]; differentiable."""
        return self._by_windows(z, self.window_prior.decode, self._fixed(z.shape[-2:]), larger=self.factor)

    def _fixed(self, size: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return where windows begin that stay."""
        down, across = (
            starts(n, side, side - self.overlap, 0) for n, side in zip(size, self.window, strict=True)
        )
        return down, across


def starts(length: int, window: int, stride: int, shift: int) -> list[int]:
    """Return where windows begin that cover an axis: `stride` apart, moved back by `shift`, none over the ends."""
    last = length - window
    return sorted({min(max(place - shift, 0), last) for place in range(0, last + 2 * stride, stride)})


def ramp(length: int, overlap: int) -> Tensor:
    """Return weights of the pixels of a window along an axis: 1 inside, sin^2 towards 0 in the overlap, [length]."""
    place = torch.arange(length) + 0.5
    edge = torch.minimum(place, length - place)
    return (edge / max(overlap, 0.5)).clamp_max(1).mul(torch.pi / 2).sin().square()
