r"""Draws of numbers x whose density is a Gaussian times the likelihood of a piecewise linear function of x.

On piece j, which goes from l_j to h_j, let y given x be N(alpha_j + beta_j x, r). Then, for x in it,

    N(x; u, d) N(y; alpha_j + beta_j x, r) = c_j N(x; m_j, v_j),

    s_j = r + beta_j^2 d,    v_j = r d / s_j,    m_j = u + d beta_j (y - alpha_j - beta_j u) / s_j,
    c_j = N(y; alpha_j + beta_j u, s_j),

and the piece has the probability c_j (Phi((h_j - m_j) / v_j^{1/2}) - Phi((l_j - m_j) / v_j^{1/2})), up to a constant.
A number is drawn by the inverse of its distribution function, which is exact and goes along with u, d and y: where they
change by rounding, so does the draw, and no more. Double precision carries what is left in the tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from math import inf, log, pi

import torch
from torch import Tensor
from torch.special import log_ndtr, ndtr, ndtri

__all__ = ["draw"]

LEAST = -600.0
"""Log of the probability from which a tail goes by log Phi(-z) = -z^2 / 2 - log z - log(2 pi) / 2."""


def draw(
    forward: Callable[[Tensor], Tensor],
    kinks: Sequence[float],
    y: Tensor,
    r: float | Tensor,
    u: Tensor,
    d: Tensor,
    normal: Tensor,
) -> Tensor:
    """Return the x whose distribution function is that of standard normal numbers, in double precision, [B, ...].

    Args:
        forward: the function, elementwise, continuous, and linear between the kinks and beyond them.
        kinks: where its slope changes, rising, at least one.
        y: the measurements, [B, ...].
        r: variance of their noise, a number or [B, ...].
        u, d: mean and variance of the Gaussian, [B, ...].
        normal: the numbers, [B, ...].
    """
    u, d, y = u.double(), d.double(), y.double()
    pieces: list[tuple[Tensor, ...]] = []
    chances = []
    for low, high, alpha, beta in _lines(forward, kinks, u):
        spare = r + beta**2 * d
        m = u + d * beta * (y - alpha - beta * u) / spare
        root, near, far, within = _tails(low, high, m, (r * d / spare).sqrt())
        chances.append(within - ((y - alpha - beta * u).square() / spare + spare.log()) / 2)
        pieces.append((near, far, m, root, u.new_tensor(low), u.new_tensor(high)))
    top = reduce(torch.maximum, chances)
    weights = [(chance - top).exp() for chance in chances]
    p, share, chosen = ndtr(normal.double()) * sum(weights), torch.full_like(u, torch.nan), pieces[0]
    for weight, piece in zip(weights, pieces, strict=True):
        inside = (p > 0) & (p <= weight)
        share = torch.where(inside, p / weight, share)
        chosen = tuple(torch.where(inside, new, old) for new, old in zip(piece, chosen, strict=True))
        p = p - weight
    near, far, m, root, bottom, above = chosen
    share = torch.where(root > 0, 1 - share, share)
    z = _quantile(near + torch.log1p(share * torch.expm1(far - near)))
    return torch.minimum(torch.maximum(m + root * z, bottom), above)


def _tails(low: float, high: float, m: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of N(m, deviation^2) log Phi at both ends of an interval, the larger first, and that of their difference.

    They are those of (x - m) / root, which comes first: it is mirrored above the mean, where Phi rounds to 1.
    """
    if low == -inf or high == inf:
        root, end = (deviation, high) if low == -inf else (-deviation, low)
        near = log_ndtr((end - m) / root)
        return root, near, m.new_tensor(-inf), near
    root = torch.where(m < low, -deviation, deviation)
    one, other = (low - m) / root, (high - m) / root
    near, far = log_ndtr(torch.maximum(one, other)), log_ndtr(torch.minimum(one, other))
    return root, near, far, near + torch.log1p(-(far - near).exp())


def _lines(
    forward: Callable[[Tensor], Tensor], kinks: Sequence[float], like: Tensor
) -> Iterator[tuple[float, float, Tensor, Tensor]]:
    """Yield low and high end, alpha and beta of each piece."""
    points = [kinks[0] - 1, *kinks, kinks[-1] + 1]
    values = [forward(torch.full_like(like, point)) for point in points]
    for index, ((left, right), (a, b)) in enumerate(zip(pairwise(points), pairwise(values), strict=True)):
        beta = (b - a) / (right - left)
        low = left if index else -inf
        yield low, right if index < len(kinks) else inf, a - beta * left, beta


def _quantile(log_p: Tensor) -> Tensor:
    """Return the z of which log Phi(z) is given, also where Phi(z) is less than any number."""
    square = (-2 * log_p).clamp_min(1)
    z = (square - square.log() - log(2 * pi)).clamp_min(1).sqrt()
    return torch.where(log_p > LEAST, ndtri(log_p.exp()), -z)
