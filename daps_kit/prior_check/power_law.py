r"""The best linear denoiser for images of which only the decay of the spectrum is known.

Natural images have power spectra near |k|^{-alpha}. With Q an orthonormal rotation that makes the channels uncorrelated
and F the orthonormal cosine transform (even at the borders, so that no border looks like an edge),

    x0 ~ N(m, Q F^T diag(S) F Q^T),   S_c(k) = A_c |k|^{-alpha_c},
    E[x0 | x0 + sigma n = x] = m + Q F^T diag(S / (S + sigma^2)) F Q^T (x - m)        (the Wiener filter)

with m the mean colour. The two numbers of a channel, A and alpha, are fitted to images: a straight line through the
logarithms of the mean powers on rings of equal |k|, each octave with equal weight.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.fft import dctn, idctn
from torch import Tensor

__all__ = ["PowerLaw"]

_FLOOR = 1e-10  # variance; keeps the logarithms finite for images that are flat


class PowerLaw:
    """A Gaussian with a power-law spectrum, fitted to images.

    Args:
        images: [N, C, H, W], any N >= 1.
    """

    def __init__(self, images: Tensor) -> None:
        x0 = images.detach().double().cpu()
        channels, height, width = x0.shape[1:]
        self.mean = x0.mean((0, 2, 3), keepdim=True)
        centred = x0 - self.mean
        covariance = torch.einsum("nchw,ndhw->cd", centred, centred)
        self.rotation = torch.linalg.eigh(covariance)[1]
        power = np.square(self._transform(centred)).mean(0).reshape(channels, -1)
        # |k| in half waves along the longer side; the constant, whose power one image cannot tell, lies at 1/2.
        rows, columns = np.arange(height) / height, np.arange(width) / width
        radius = max(height, width) * np.hypot(rows[:, None], columns).ravel()
        radius[0] = 0.5
        ring = np.rint(radius[1:]).astype(np.int64)
        counts = np.bincount(ring)
        used = np.flatnonzero(counts)
        logs = np.bincount(ring, np.log(radius[1:]))[used] / counts[used]
        self.spectrum = np.empty((channels, height, width))
        for channel in range(channels):
            level, slope = math.log(power[channel].mean() + _FLOOR), 0.0
            if len(used) > 2:  # enough pixels for a slope
                means = np.bincount(ring, power[channel, 1:])[used] / counts[used]
                slope, level = np.polyfit(logs, np.log(means + _FLOOR), 1, w=used**-0.5)
            self.spectrum[channel] = np.exp(level + slope * np.log(radius)).reshape(height, width)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Return E[x0 | x0 + sigma n = x] for x [B, C, H, W]."""
        gain = self.spectrum / (self.spectrum + sigma**2)
        filtered = idctn(
            gain * self._transform(x.detach().double().cpu() - self.mean), axes=(-2, -1), norm="ortho"
        )
        rotated = torch.einsum("bchw,dc->bdhw", torch.from_numpy(filtered), self.rotation)
        return (self.mean + rotated).to(x)

    def _transform(self, centred: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        rotated = torch.einsum("bchw,cd->bdhw", centred, self.rotation)
        found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = dctn(
            rotated.numpy(), axes=(-2, -1), norm="ortho"
        )
        return found
