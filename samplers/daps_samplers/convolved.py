r"""Images of which a convolution A is measured, with noise of the precision W.

With K the transfer function of A and P the spectrum of C, the precision of the Gaussian, M = C^{-1} + A^T W A, has far
from the border about the inverse 1 / (1 / P + h |K|^2) in Fourier's basis, h = W. So the preconditioner is what this
filter leaves of a picture: fill with zeros to the size of a torus, multiply the spectrum, cut the picture out. That is
the covariance of a part of a stationary image, which the border changes by a factor near 1 in most directions, however
large the contrast of P and |K|^2. Two others are left behind: the same with A C A^T + W^{-1} in the space of
measurements, since what is cut out of a precision has lost what it depends on, and the cosine basis of C, which does
not tell apart the two directions of a wave, as a motion does. (At 32 pixels, a blur by 7 pixels at 30 degrees with
zeros beyond the border takes 20 steps to a thousandth of a standard deviation, and with these 59 and 73.)

Where C = Q E^{1/2} F^T P F E^{1/2} Q^T is scaled from place to place, in the coordinates E^{-1/2} Q^T x the filter is
that of h(x) = E A^T W 1. With hats H_j(x) between some values h_j, even in log h, that add up to 1, take

    sum_j H_j^{1/2} F'^{-1} diag(1 / (1 / P + h_j |K|^2)) F' H_j^{1/2},

F' being Fourier's transform. Noise that differs from place to place is allowed for in the same way.

Source: Chan and Ng, "Conjugate gradient methods for Toeplitz systems", SIAM Review 38 (1996), for circulant matrices
as preconditioners.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Transfer
from daps_kit.covariance import CosineCovariance, LocalCovariance
from daps_kit.linalg import least_squares

__all__ = ["preconditioner", "solve"]

RATIO, LEAST, EVEN = 100.0, 1e-4, 10.0
"""Ratio of one h_j to the next at most, the least in units of the largest, and the ratio up to which one will do."""


def solve(
    operator: LinearOperator,
    transfer: Transfer,
    covariance: CosineCovariance | LocalCovariance,
    weight: Tensor,
    misfit: Tensor,
    *,
    accuracy: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    """Return M^{-1} A^T W misfit and about its error in posterior standard deviations, root mean square, [B].

    Args:
        operator: A.
        transfer: how it scales waves.
        covariance: C.
        weight: the diagonal of W, positive, that broadcasts with the misfit.
        misfit: [B, ...].
        accuracy: the error to reach.
        max_steps: products with M at most.
    """
    return least_squares(
        operator.forward,
        operator.adjoint,
        weight,
        covariance.precision,
        misfit,
        precondition=preconditioner(operator, transfer, covariance, weight.expand_as(misfit)),
        tolerance=accuracy,
        max_steps=max_steps,
    )


def preconditioner(
    operator: LinearOperator,
    transfer: Transfer,
    covariance: CosineCovariance | LocalCovariance,
    weight: Tensor,
) -> Callable[[Tensor], Tensor]:
    """Return about M^{-1}, as a function of images [B, C, H, W].

    Args:
        operator, transfer, covariance: see `solve`.
        weight: the diagonal of W, [B, ...] like a measurement.
    """
    power, size = transfer.power.to(weight), transfer.size
    root: Tensor | None = None
    if isinstance(covariance, LocalCovariance):
        even, root = covariance.even, covariance.scale.to(weight)
    else:
        even = covariance
    whole = power[..., :1, :1].sqrt().clamp_min(torch.finfo(power.dtype).tiny)
    h = operator.adjoint(weight).mean(1, keepdim=True) / whole
    places, heights = hats(h if root is None else h * root.square())
    places = places if root is None else [root * place for place in places]
    rest = 1 / on_torus(even.power.to(weight), size)
    gains = [1 / (rest + height * power) for height in heights]

    def filtered(z: Tensor, gain: Tensor) -> Tensor:
        lines = torch.fft.ifft(torch.fft.rfft2(z, s=size) * gain, dim=-2)[..., : z.shape[-2], :]
        found: Tensor = torch.fft.irfft(lines, n=size[1])[..., : z.shape[-1]]
        return found

    def apply(r: Tensor) -> Tensor:
        z = even.turned_back(r)
        if root is None and len(gains) == 1:
            return even.turned(filtered(z, gains[0]))
        found = torch.zeros_like(z)
        for place, gain in zip(places, gains, strict=True):
            found = found + place * filtered(place * z, gain)
        return even.turned(found)

    return apply


def hats(h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the roots of H_j, [B, C, H, W], and h_j, [B, C, 1, 1], of each image and colour; at least one.

    Args:
        h: [B, C, H, W].
    """
    top = h.amax((2, 3), keepdim=True).clamp_min(torch.finfo(h.dtype).tiny)
    low = torch.maximum(h.amin((2, 3), keepdim=True), LEAST * top)
    span = float((top / low).max())
    if not span > EVEN:
        return [torch.ones_like(h)], [h.clamp_min(0).mean((2, 3), keepdim=True)]
    steps = math.ceil(math.log(span, RATIO))
    reach = (top / low).log().clamp_min(torch.finfo(h.dtype).eps)
    place = (torch.maximum(h, low) / low).log() / reach * steps
    levels = range(steps + 1)
    return (
        [(1 - (place - j).abs()).clamp_min(0).sqrt() for j in levels],
        [low * (reach * (j / steps)).exp() for j in levels],
    )


def on_torus(power: Tensor, size: tuple[int, int]) -> Tensor:
    """Return variances at the frequencies of the cosine basis at those of a real Fourier transform, by their logs.

    Args:
        power: [..., H, W].
        size: (h, w) of the torus.

    Returns:
        [..., h, w // 2 + 1].
    """
    logs = power.log()
    for axis, length, count in ((-2, size[0], size[0]), (-1, size[1], size[1] // 2 + 1)):
        n, turns = power.shape[axis], torch.arange(count, dtype=torch.float64, device=power.device)
        place = torch.minimum(turns, length - turns) * (2 * n / length)
        below = place.floor().long().clamp_max(n - 1)
        share = (place - below).to(power).reshape(-1, *(1,) * (-1 - axis))
        above = logs.index_select(axis, (below + 1).clamp_max(n - 1))
        logs = torch.lerp(logs.index_select(axis, below), above, share)
    return logs.exp()
