r"""Covariances of images: diagonal, low-rank beside a multiple of the identity, diagonal in the cosine basis.

The last has, of images with rotated colours,

    C = (Q x D^T) diag(P) (Q^T x D),     D = cosine_matrix(H) x cosine_matrix(W),

with Q orthonormal and D the discrete cosine transform (DCT-II), the Fourier transform of an image that is mirrored at
its borders. A periodic transform would join opposite borders, which have nothing to do with each other. Basis function
k of n pixels has k / 2 cycles in the picture. The transform is a matrix product for each axis: up to 256 pixels that is
no slower than a fast transform.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Normal
from daps_kit.linalg import per_sample

__all__ = [
    "CosineCovariance",
    "Diagonal",
    "Isotropic",
    "LocalCovariance",
    "LowRank",
    "cosine_filter",
    "cosine_inverse",
    "cosine_matrix",
    "cosine_transform",
    "in_colours",
    "rest_root",
    "turned",
]

LARGEST_MATRIX = 256


@lru_cache(maxsize=32)
def cosine_matrix(n: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
    """Return the orthonormal DCT-II of n numbers, [n, n]: row k is sqrt(2 / n) cos(pi k (j + 1/2) / n), k > 0."""
    place = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(torch.pi / n * torch.outer(place, place + 0.5)) * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    cast: Tensor = matrix.to(device=device, dtype=dtype)
    return cast


def cosine_transform(v: Tensor) -> Tensor:
    """Return the orthonormal DCT-II of images, [..., H, W], differentiable."""
    return _planes(v, _forward)


def cosine_inverse(z: Tensor) -> Tensor:
    """Return the images [..., H, W] whose `cosine_transform` is z."""
    return _planes(z, _inverse)


def _planes(v: Tensor, fast: Callable[[Tensor], Tensor]) -> Tensor:
    """Transform both axes; on a processor, of large images plane by plane, so that what lies in between is small."""
    large = v.device.type == "cpu" and max(v.shape[-2:]) > LARGEST_MATRIX
    if large and v.shape[:-2].numel() > 1:
        return torch.stack([_planes(plane, fast) for plane in v.flatten(0, -3)]).reshape(v.shape)
    return _along(_along(v, -2, fast), -1, fast)


def _along(v: Tensor, axis: int, fast: Callable[[Tensor], Tensor]) -> Tensor:
    """Transform one axis, forward or back: by a matrix where that is short."""
    n = v.shape[axis]
    if n > LARGEST_MATRIX:
        return fast(v.movedim(axis, -1)).movedim(-1, axis)
    matrix = cosine_matrix(n, v.dtype, v.device)
    if axis == -2:
        return (matrix if fast is _forward else matrix.T) @ v
    return v @ (matrix.T if fast is _forward else matrix)


def _forward(v: Tensor) -> Tensor:
    """DCT-II of the last axis by one real Fourier transform of the same length.

    Of the even places in order and the odd ones backwards after them; the turned result W holds X_k = Re W_k and
    X_{n-k} = -Im W_k (Makhoul, IEEE Trans. ASSP 28 (1980)).
    """
    n = v.shape[-1]
    turned = torch.fft.rfft(torch.cat((v[..., ::2], v[..., 1::2].flip(-1)), dim=-1)) * _turn(n, v).conj()
    mirrored = turned.imag[..., 1 : (n + 1) // 2].flip(-1)
    z = torch.cat((turned.real, -mirrored), dim=-1) * (2 / n) ** 0.5
    return torch.cat((z[..., :1] / 2**0.5, z[..., 1:]), dim=-1)


def _inverse(z: Tensor) -> Tensor:
    """The inverse of `_forward`."""
    n = z.shape[-1]
    z = torch.cat((z[..., :1] * 2**0.5, z[..., 1:]), dim=-1) * (n / 2) ** 0.5
    mirrored = torch.cat((torch.zeros_like(z[..., :1]), z[..., (n + 1) // 2 :].flip(-1)), dim=-1)
    half = n // 2 + 1
    w = torch.fft.irfft(torch.complex(z[..., :half], -mirrored[..., :half]) * _turn(n, z), n)
    even = (n + 1) // 2
    v = torch.empty_like(w)
    v[..., ::2], v[..., 1::2] = w[..., :even], w[..., even:].flip(-1)
    return v


def _turn(n: int, like: Tensor) -> Tensor:
    """Return e^{i pi k / 2n}, [n // 2 + 1]."""
    angle = torch.arange(n // 2 + 1, dtype=torch.float64) * (torch.pi / (2 * n))
    kind = torch.complex128 if like.dtype == torch.float64 else torch.complex64
    return torch.polar(torch.ones_like(angle), angle).to(kind).to(like.device)


def cosine_filter(v: Tensor, gain: Tensor, colours: Tensor) -> Tensor:
    """Multiply images by a gain in the cosine basis of rotated colours.

    Args:
        v: [B, C, H, W].
        gain: [C, H, W] or [B, C, H, W].
        colours: the rotation Q, [C, C].
    """
    return in_colours(v, colours, lambda rotated: cosine_inverse(cosine_transform(rotated) * gain))


def in_colours(v: Tensor, colours: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a function of images [B, C, H, W] makes of v in rotated colours Q, [C, C], rotated back."""
    return turned(apply(turned(v, colours.T)), colours)


def turned(v: Tensor, colours: Tensor) -> Tensor:
    """Return Q v at each pixel of images [B, C, H, W], Q [C, C]."""
    return (colours @ v.flatten(2)).reshape(v.shape)


def rest_root(least: Tensor, variances: Tensor) -> Tensor:
    """Return the root of d - d^2 / c for variances c of at least d: what x leaves open of u (`independent`)."""
    return (least * (1 - least / variances)).clamp_min(0).sqrt()


class Isotropic(Covariance):
    """C = variance I.

    Args:
        variance: positive, one number or one for each sample [B].
    """

    def __init__(self, variance: float | Tensor) -> None:
        self.variance = torch.as_tensor(variance)

    def sqrt(self, v: Tensor) -> Tensor:
        """Return the standard deviation times v."""
        return v * per_sample(self.variance.sqrt(), v)

    def precision(self, v: Tensor) -> Tensor:
        """Return v / variance."""
        return v / per_sample(self.variance, v)

    def of(self, sample: int) -> Isotropic:
        """Return that of one sample."""
        return Isotropic(self.variance[sample]) if self.variance.ndim else self

    @property
    def isotropic(self) -> Tensor:
        """The variance."""
        return self.variance


class Diagonal(Covariance):
    """A covariance that is diagonal in pixels.

    Args:
        variance: positive, [B, ...] like the samples (or one for all).
    """

    def __init__(self, variance: Tensor) -> None:
        self.variance = variance

    def sqrt(self, v: Tensor) -> Tensor:
        """Return the standard deviation of each element times v."""
        return v * self.variance.sqrt().to(v)

    def precision(self, v: Tensor) -> Tensor:
        """Return v / variance."""
        return v / self.variance.to(v)

    def of(self, sample: int) -> Diagonal:
        """Return that of one sample."""
        return Diagonal(self.variance[sample : sample + 1]) if len(self.variance) > 1 else self

    def independent(self) -> tuple[Tensor, Callable[[Normal], Tensor]]:
        """Return the variances: all is independent."""
        return self.variance, lambda normal: torch.zeros_like(normal())


class LowRank(Covariance):
    """C = variance I + basis^T spread basis, for each sample.

    Args:
        variance: positive, [B].
        basis: orthonormal rows, [R, d] or [B, R, d] for samples of d elements.
        spread: symmetric, positive semidefinite, [B, R, R].
    """

    def __init__(self, variance: Tensor, basis: Tensor, spread: Tensor) -> None:
        self._variance = variance[:, None]
        self._basis = basis.expand(len(variance), -1, -1)
        self._values, self._vectors = torch.linalg.eigh(spread)
        self._values = self._values.clamp_min(0) + self._variance

    def of(self, sample: int) -> LowRank:
        """Return that of one sample."""
        one = copy.copy(self)
        for key, value in vars(self).items():
            setattr(one, key, value[sample : sample + 1])
        return one

    def sqrt(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v with the symmetric root, [B, ...]."""
        return self._weigh(v, Tensor.sqrt)

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v, [B, ...]."""
        return self._weigh(v, Tensor.clone)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v, [B, ...]."""
        return self._weigh(v, Tensor.reciprocal)

    def independent(self) -> tuple[Tensor, Callable[[Normal], Tensor]]:
        """Return the least variance of each sample, and draws of what is left of it when x is known."""
        least = self._variance
        return least[:, 0], lambda normal: self._weigh(normal(), lambda values: rest_root(least, values))

    def _weigh(self, v: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return f(C) v."""
        flat = v.flatten(1).to(self._variance)
        rest = function(self._variance)
        along = self._vectors.mT @ (self._basis @ flat[:, :, None])
        change = self._vectors @ ((function(self._values) - rest)[:, :, None] * along)
        weighed: Tensor = rest * flat + (self._basis.mT @ change)[:, :, 0]
        return weighed.reshape(v.shape).to(v)


class CosineCovariance(Covariance):
    """A covariance that is diagonal in the cosine basis after a rotation of the colours.

    Args:
        power: the variances P, positive, [C, H, W], or those of each sample, [B, C, H, W].
        colours: the rotation Q, [C, C].
        average: whether it was measured as a mean over images.
    """

    def __init__(self, power: Tensor, colours: Tensor, *, average: bool = False) -> None:
        self.power, self.colours, self.average = power, colours, average

    def of(self, sample: int) -> CosineCovariance:
        """Return that of one sample, with P [C, H, W]."""
        if self.power.ndim == 3:
            return self
        return CosineCovariance(self.power[sample], self.colours, average=self.average)

    @property
    def common(self) -> CosineCovariance:
        """Itself, or where each sample has its own the one of their geometric mean, P [C, H, W]."""
        if self.power.ndim == 3:
            return self
        return CosineCovariance(self.power.log().mean(0).exp(), self.colours, average=self.average)

    @property
    def least(self) -> Tensor:
        """The least of the variances, of each sample where they have their own: 0-d or [B, 1, 1, 1]."""
        return self.power.min() if self.power.ndim == 3 else self.power.amin((1, 2, 3), keepdim=True)

    @cached_property
    def _root(self) -> Tensor:
        return self.power.sqrt()

    def sqrt(self, v: Tensor) -> Tensor:
        """Return L v, L = Q F^T P^{1/2} with F the cosine transform: one transform, [B, C, H, W]."""
        return self.turned(cosine_inverse(self._root.to(v) * v))

    def sqrt_transposed(self, v: Tensor) -> Tensor:
        """Return L^T v."""
        return self._root.to(v) * cosine_transform(self.turned_back(v))

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v, [B, C, H, W]."""
        return self.filter(v, self.power)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v, [B, C, H, W]."""
        return self.filter(v, 1 / self.power)

    def independent(self) -> tuple[Tensor, Callable[[Normal], Tensor]]:
        """Return the least of the variances, and draws of what is left of it when x is known."""
        return self.least, lambda normal: self.filter(normal(), rest_root(self.least, self.power))

    def filter(self, v: Tensor, gain: Tensor) -> Tensor:
        """Return v multiplied by a gain [C, H, W] or [B, C, H, W] in the basis of C."""
        return cosine_filter(v, gain.to(v), self.colours.to(v))

    def inverse(self, spectrum: Tensor, variance: float | Tensor) -> Callable[[Tensor], Tensor]:
        """Return v -> (D^T diag(spectrum) D + variance I)^{-1} v, D the basis of C.

        Args:
            spectrum: [C, H, W], or one for each image of v, [B, C, H, W].
            variance: a number, or one for each image of v, [B].
        """
        gain = 1 / (spectrum + per_sample(variance, self.power[None]))
        return lambda v: self.filter(v, gain)

    def unrotated(self) -> CosineCovariance:
        """Return the covariance of images whose colours are rotated already."""
        eye = torch.eye(len(self.colours)).to(self.colours)
        return CosineCovariance(self.power, eye, average=self.average)

    def rotated(self, v: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a function of images makes of v in the rotated colours of C."""
        return in_colours(v, self.colours.to(v), apply)

    def turned(self, v: Tensor) -> Tensor:
        """Return Q v, the image whose rotated colours are v, [B, C, H, W]."""
        return turned(v, self.colours.to(v))

    def turned_back(self, v: Tensor) -> Tensor:
        """Return Q^T v, the rotated colours of an image."""
        return turned(v, self.colours.to(v).T)


class LocalCovariance(Covariance):
    r"""C = Q E^{1/2} F^T diag(P) F E^{1/2} Q^T: a covariance in the cosine basis F, scaled at each place.

    Args:
        even: Q F^T diag(P) F Q^T.
        scale: E^{1/2}, positive, [B, C, H, W], in rotated colours.
    """

    def __init__(self, even: CosineCovariance, scale: Tensor) -> None:
        self.even, self.scale, self.average = even, scale, even.average

    def of(self, sample: int) -> LocalCovariance:
        """Return that of one sample."""
        if len(self.scale) == 1 and self.even.power.ndim == 3:
            return self
        return LocalCovariance(self.even.of(sample), self.scale[sample : sample + 1])

    def sqrt(self, v: Tensor) -> Tensor:
        """Return L v, L = Q E^{1/2} F^T diag(P)^{1/2}, [B, C, H, W]."""
        even = self.even
        return even.turned(self.scale.to(v) * cosine_inverse(even.power.sqrt().to(v) * v))

    @property
    def colours(self) -> Tensor:
        """The rotation Q, [C, C]."""
        return self.even.colours

    def unrotated(self) -> LocalCovariance:
        """Return the covariance of images whose colours are rotated already."""
        return LocalCovariance(self.even.unrotated(), self.scale)

    def sqrt_transposed(self, v: Tensor) -> Tensor:
        """Return L^T v."""
        even = self.even
        return even.power.sqrt().to(v) * cosine_transform(self.scale.to(v) * even.turned_back(v))

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v, [B, C, H, W]."""
        return self._between(v, self.scale, self.even.power)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v, [B, C, H, W]."""
        return self._between(v, 1 / self.scale, 1 / self.even.power)

    def independent(self) -> tuple[Tensor, Callable[[Normal], Tensor]]:
        """Return d = p min E, p the least of P and min E the least of E at each pixel, and draws of the rest.

        C - d I is the sum of Q E^{1/2} F^T (P - p) F E^{1/2} Q^T and Q (p E - d) Q^T, neither of which is negative.
        For u ~ N(0, C - d I) and x ~ N(u, d I), u - E[u | x] = d C^{-1} x - (x - u) has the covariance of u given x.
        """
        least, squares = self.even.least, self.scale.square()
        d = least * squares.amin(1, keepdim=True)
        bound, spare = (
            (self.even.power - least).clamp_min(0).sqrt(),
            (least * squares - d).clamp_min(0).sqrt(),
        )

        def draw(normal: Normal) -> Tensor:
            z = normal()
            local = cosine_inverse(cosine_transform(normal()) * bound.to(z)) * self.scale.to(z)
            own = spare.to(z) * normal()
            apart = d.sqrt().to(z) * z
            u = (self.even.colours.to(z) @ (local + own).flatten(2)).reshape(z.shape)
            x = u + apart
            return d.to(z) * self.precision(x) - apart

        return d, draw

    def _between(self, v: Tensor, scale: Tensor, gain: Tensor) -> Tensor:
        """Return Q s F^T g F s Q^T v."""
        s, g = scale.to(v), gain.to(v)
        return self.even.rotated(v, lambda z: s * cosine_inverse(cosine_transform(s * z) * g))
