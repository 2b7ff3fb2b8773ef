r"""The singular values of an operator, A = U S V^T, for methods that work on each of them.

U is never needed: with z = V^T x, the measurement's place in the coordinates of images is

    ybar = S^+ U^T y = S^{-2} V^T A^T y    where S > 0,

which is z plus noise of standard deviation sigma_y / S. V is found from A^T A, in the cheapest of three ways:

    diagonal     A^T A scales each number of an image (masks): V = I
    separable    A^T A x = M x N for each channel (blurs and resizings along the axes): two small eigenproblems
    dense        channels apart and alike, of at most LIMIT pixels: one eigenproblem

A^T A is known by its products alone; whether it is of a form is tested with a random image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator

__all__ = ["LIMIT", "Spectrum"]

LIMIT = 4096
"""Pixels of the largest image whose operator is decomposed densely."""

SMALL = 1e-4
"""Singular values below this part of the largest count as zero: rounding hides them."""

CHUNK = 256
_KEY = "_daps_rivals_spectrum"


@dataclass(frozen=True)
class Spectrum:
    """The singular value decomposition of an operator.

    Attributes:
        to, back: V^T x and V z, both with the shape of images.
        values: S, of the same shape, or broadcasting to it.
    """

    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    values: Tensor

    def measured(self, operator: LinearOperator, y: Tensor) -> Tensor:
        """Return ybar, zero where S is."""
        s = self.values.to(y)
        return torch.where(s > 0, self.to(operator.adjoint(operator.project(y))) / s.square(), 0)

    @staticmethod
    def refusal(name: str, operator: LinearOperator) -> str:
        """Return why the decomposition is out of reach; empty if it is not."""
        channels, height, width = operator.shape
        if height * width <= LIMIT and (channels == 1 or _alike(operator)):
            return ""
        if _diagonal(operator) is not None or _separable(operator) is not None:
            return ""
        return (
            f"{name} needs the singular values of the operator; allowed: masks, operators along the axes, and others "
            f"that treat channels alike up to {LIMIT} pixels, not {height} x {width}"
        )

    @classmethod
    def of(cls, operator: LinearOperator) -> Spectrum:
        """Return the decomposition of an operator that was not refused; it is made once and kept with the operator."""
        kept: dict[str, Any] = vars(operator)
        if _KEY not in kept:
            kept[_KEY] = cls._made(operator)
        found: Spectrum = kept[_KEY]
        return found

    @classmethod
    def _made(cls, operator: LinearOperator) -> Spectrum:
        values = _diagonal(operator)
        if values is not None:
            return cls(lambda x: x, lambda z: z, _root(values))
        factors = _separable(operator)
        if factors is not None:
            (left, p), (right, q) = (torch.linalg.eigh(factor) for factor in factors)

            def to(x: Tensor) -> Tensor:
                return p.T.to(x) @ x @ q.to(x)

            def back(z: Tensor) -> Tensor:
                return p.to(z) @ z @ q.T.to(z)

            return cls(to, back, _root(left[:, None] * right))
        squares, basis = _dense(operator)
        return cls(
            lambda x: (x.flatten(2) @ basis.to(x)).reshape(x.shape),
            lambda z: (z.flatten(2) @ basis.T.to(z)).reshape(z.shape),
            _root(squares).reshape(1, 1, *operator.shape[1:]),
        )


def _root(squares: Tensor) -> Tensor:
    values = squares.clamp_min(0).sqrt()
    return torch.where(values > SMALL * values.max(), values, 0)


@torch.no_grad()
def _normal(operator: LinearOperator, x: Tensor) -> Tensor:
    """Return A^T A x in double precision."""
    product: Tensor = operator.adjoint(operator.forward(x))
    return product.double()


def _probe(operator: LinearOperator) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((1, *operator.shape), generator=generator, dtype=torch.float64)


def _close(got: Tensor, wanted: Tensor) -> bool:
    return bool((got - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp_min(1e-12))


def _diagonal(operator: LinearOperator) -> Tensor | None:
    """Return the squares of the singular values where A^T A is diagonal; for each image where each has its own."""
    probe = _probe(operator)
    squares = _normal(operator, torch.ones_like(probe))
    return squares if _close(_normal(operator, probe), squares * probe) else None


def _alike(operator: LinearOperator) -> bool:
    """Return whether channels are apart and alike."""
    everywhere = _probe(operator)[:, :1].expand(1, *operator.shape)
    first = torch.cat([everywhere[:, :1], torch.zeros_like(everywhere[:, 1:])], 1)
    all_of_it, one = _normal(operator, everywhere), _normal(operator, first)
    apart = bool(one[:, 1:].abs().max() <= 1e-5 * one.abs().max()) if len(one[0]) > 1 else True
    return apart and _close(all_of_it, one[:, :1].expand_as(all_of_it))


def _separable(operator: LinearOperator) -> tuple[Tensor, Tensor] | None:
    """Return M and N, symmetric, where A^T A x = M x N for each channel."""
    channels, height, width = operator.shape
    row, column = height // 2, width // 2
    pulses = torch.zeros((height + width, channels, height, width), dtype=torch.float64)
    pulses[torch.arange(height), :, torch.arange(height), column] = 1
    pulses[height + torch.arange(width), :, row, torch.arange(width)] = 1
    found = _normal(operator, pulses)[:, 0]
    weight = found[row, row, column]
    if not bool(weight > 0):
        return None
    m = found[:height, :, column].T / weight
    n = found[height:, row, :]
    m, n = (m + m.T) / 2, (n + n.T) / 2
    probe = _probe(operator)
    return (m, n) if _close(_normal(operator, probe), m @ probe @ n) else None


def _dense(operator: LinearOperator) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of A^T A on one channel."""
    channels, height, width = operator.shape
    size = height * width
    columns = []
    for start in range(0, size, CHUNK):
        pulses = torch.zeros((min(CHUNK, size - start), channels, height, width), dtype=torch.float64)
        pulses.flatten(2)[torch.arange(len(pulses)), :, start + torch.arange(len(pulses))] = 1
        columns.append(_normal(operator, pulses)[:, 0].flatten(1))
    matrix = torch.cat(columns)
    squares, basis = torch.linalg.eigh((matrix + matrix.T) / 2)
    return squares, basis
