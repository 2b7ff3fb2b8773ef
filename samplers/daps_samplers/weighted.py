r"""Images of which every pixel is measured by itself, with a weight of its own, which is 0 where it is hidden.

C = Q E^{1/2} F^T P F E^{1/2} Q^T is diagonal in the cosine basis F of rotated colours Q, E^{1/2} scales it from place
to place (`daps_kit.covariance`), and G = diag(g) are the weights. With x = Q E^{1/2} u the precision C^{-1} + G becomes

    F^T P^{-1} F + H,    H = E^{1/2} Q^T G Q E^{1/2}.

Were H one number h, its inverse were N = (F^T P^{-1} F + h)^{-1}. With n = tr N / d, the variance of a pixel among
others of the weight h, a pixel of the weight H has about the variance n T^2,

    T^2 = 1 / (1 + n (H - h)),

so that T N T has about the diagonal of the inverse. It is right on average where the mean of T^2 is 1, which says what
h is: n h is the share of pixels that are measured, where these are measured exactly. What is hidden counts for half of
all at least, as it lies together often. In coordinates z, u = T F^T N^{1/2} z, the precision is near I: conjugate
gradients take few steps, and their residual is about an error in posterior standard deviations. At 128 pixels and a
high noise level they take 8 with photon noise, 21 with half of the pixels hidden, and 45 with four fifths.

Source: Soven, "Coherent-potential model of substitutional disordered alloys", Physical Review 156 (1967), for h.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.covariance import CosineCovariance, LocalCovariance, cosine_inverse, cosine_transform, turned
from daps_kit.linalg import conjugate_gradients, inner

__all__ = ["CAUTION", "ROUNDING", "Weighted"]

ROUNDING = 1e-6
"""Relative residual below which single precision cannot go."""

HALVINGS = 12
"""Of the range of log h in which it is looked for."""

LEAST = 1e-6
"""Least h, in units of the largest weight."""

CAUTION = 3.0
"""How much larger an error may be than the residual says: as much was seen with a hole in a photograph."""

EVEN = (0.03, 4.0)
"""Values of T^2 between which T is left out, which halves the transforms of a step."""


class Weighted:
    """The Gaussian with the precision C^{-1} + diag(g), in the coordinates w of x = L w, L the root of C.

    Args:
        covariance: C.
        weight: g, not negative, [B or 1, C, H, W].
    """

    def __init__(self, covariance: CosineCovariance | LocalCovariance, weight: Tensor) -> None:
        self._scale: Tensor | None = None
        if isinstance(covariance, LocalCovariance):
            self._even, self._scale = covariance.even, covariance.scale.to(weight)
        else:
            self._even = covariance
        self._power, self._weight = self._even.power.to(weight), weight
        # Weights of grey need no turn of the colours.
        self._grey = bool((weight == weight[:, :1]).all())
        own = weight if self._grey else turned(weight, self._even.colours.to(weight).T.square())
        own = own if self._scale is None else own * self._scale.square()
        self._h, n = _mean_weight(self._power, own)
        self._gain = (self._power / (1 + self._h * self._power)).sqrt()
        balance = 1 / (1 + n * (own - self._h))
        self._n = n
        even = bool((balance >= EVEN[0]).all() and (balance <= EVEN[1]).all())
        self._balance = None if even else balance.sqrt()

    def solve(self, b: Tensor, *, accuracy: float, max_steps: int) -> tuple[Tensor, Tensor]:
        """Return (I + L^T G L)^{-1} b and about a bound on its error in posterior standard deviations, [B].

        Args:
            b: right-hand sides, [B, C, H, W].
            accuracy: the error to reach.
            max_steps: products at most.
        """
        size, start = b[0].numel() ** 0.5, self.residual(b)
        norm = inner(start, start).sqrt().clamp_min(torch.finfo(b.dtype).tiny)
        tolerance = (accuracy / CAUTION * size / norm).clamp_min(ROUNDING)
        z, residual = conjugate_gradients(self._multiply, start, tolerance=tolerance, max_steps=max_steps)
        return self._balanced(self._gain * z) / self._power.sqrt(), CAUTION * residual * norm / size

    def residual(self, r: Tensor) -> Tensor:
        """Return a residual, [B, C, H, W], in coordinates in which its norm is about that of the error."""
        return self._gain * self._balanced(r / self._power.sqrt())

    def variances(self) -> Tensor:
        """Return about the diagonal of (C^{-1} + G)^{-1}, [B or 1, C, H, W].

        That of a pixel among others of the mean weights: of its colours the precision is Q E^{-1} (1 / n - h) Q^T + G,
        without taking G for a multiple of the identity, as T does.
        """
        rest = (1 / self._n - self._h).clamp_min(0).expand(-1, *self._weight.shape[1:])
        if self._scale is not None:
            rest = rest / self._scale.square()
        q = self._even.colours.to(rest)
        if len(q) == 1:
            return 1 / (rest + self._weight)
        block = torch.einsum("ik,bkhw,jk->bhwij", q, rest, q) + torch.diag_embed(self._weight.movedim(1, -1))
        inverse: Tensor = torch.linalg.inv(block)
        return inverse.diagonal(dim1=-2, dim2=-1).movedim(-1, 1)

    def _balanced(self, v: Tensor) -> Tensor:
        """Return F T F^T v."""
        return v if self._balance is None else cosine_transform(self._balance * cosine_inverse(v))

    def _multiply(self, z: Tensor) -> Tensor:
        """Return N^{1/2} F T (F^T P^{-1} F + H) T F^T N^{1/2} z."""
        v = cosine_inverse(self._gain * z)
        if self._balance is None:
            return z + self._gain * cosine_transform(self._weighted(v) - self._h * v)
        v = self._balance * v
        whole = cosine_inverse(cosine_transform(v) / self._power) + self._weighted(v)
        return self._gain * cosine_transform(self._balance * whole)

    def _weighted(self, v: Tensor) -> Tensor:
        """Return H v."""
        v = v if self._scale is None else self._scale * v
        v = (
            self._weight[:, :1] * v
            if self._grey
            else self._even.turned_back(self._weight * self._even.turned(v))
        )
        return v if self._scale is None else self._scale * v


def _mean_weight(power: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return h and n of each image and colour, [B, C, 1, 1], by halving the range of log h.

    Args:
        power: P, [C, H, W].
        own: H, [B, C, H, W].
    """
    top = own.amax((2, 3), keepdim=True).clamp_min(torch.finfo(own.dtype).tiny)
    hidden = (own <= LEAST * top).to(own).mean((2, 3), keepdim=True)
    # The mean of T^2 - 1 is taken over as many hidden as others, at least.
    extra = (1 - 2 * hidden).clamp_min(0) * (hidden > 0)
    # h is at most the mean, as T^2 is convex in H, and at least the least.
    low = torch.maximum(own.amin((2, 3), keepdim=True), LEAST * top).log()
    high = torch.maximum(own.mean((2, 3), keepdim=True), LEAST * top).log()
    for _ in range(HALVINGS):
        h = ((low + high) / 2).exp()
        n = (power / (1 + h * power)).mean((2, 3), keepdim=True)
        wide = (1 / (1 + n * (own - h))).mean((2, 3), keepdim=True) + extra / (1 - n * h)
        larger = wide < 1 + extra
        low, high = torch.where(larger, h.log(), low), torch.where(larger, high, h.log())
    return h, n
