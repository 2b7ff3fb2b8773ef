"""Linear algebra on batches of images: constants, conjugate gradients, one independent system a sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Constant", "conjugate_gradients", "inner", "least_squares", "per_sample", "solve"]


CAUTION = 3.0
"""How much larger an error may be than the residual says in the norm of a preconditioner: as much was seen."""


class Constant:
    """A fixed tensor, kept in double precision on the CPU and cast once for each dtype and device it meets.

    Args:
        value: the tensor, real or complex, of any dtype.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.to("cpu").to(torch.complex128 if value.is_complex() else torch.float64)
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """Return the tensor in the precision of `x` (complex, if it is complex) and on its device."""
        key = (x.dtype, x.device)
        if key not in self._cast:
            dtype = x.dtype.to_complex() if self._value.is_complex() and not x.is_complex() else x.dtype
            self._cast[key] = self._value.to(dtype=dtype, device=x.device)
        return self._cast[key]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each sample, [B]."""
    return (a * b).flatten(1).sum(1)


def per_sample(value: float | Tensor, like: Tensor) -> Tensor:
    """Return a number, or one number a sample [B], shaped to multiply `like` [B, ...]."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return tensor.reshape(-1, *(1,) * (like.ndim - 1)) if tensor.ndim else tensor


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    precondition: Callable[[Tensor], Tensor] | None = None,
    start: Tensor | None = None,
    tolerance: float | Tensor = 1e-6,
    max_steps: int = 500,
) -> tuple[Tensor, Tensor]:
    """Solve M x = b for a symmetric positive definite M, for each sample of the batch on its own.

    A sample stops changing when its residual is below the tolerance, so that its result does not depend on the others.

    Args:
        apply: x -> M x, batched.
        b: right-hand sides, [B, ...].
        precondition: r -> P r with P an approximate inverse of M, symmetric positive definite.
        start: first guess, zero by default.
        tolerance: residual norm to reach, relative to the norm of b; a number, or one a sample [B].
        max_steps: products with M at most.

    Returns:
        the solutions [B, ...] and their relative residuals [B], which the caller must judge. A sample whose
        numbers stop being finite is NaN in both; one for which M is found not to be positive definite
        keeps its last iterate.

    Source: Hestenes and Stiefel, 1952.
    """
    x = torch.zeros_like(b) if start is None else start
    r = b if start is None else b - apply(start)
    z = precondition(r) if precondition else r
    p = z
    rz = inner(r, z)
    scale = inner(b, b).sqrt().clamp_min(torch.finfo(b.dtype).tiny)
    residual = inner(r, r).sqrt() / scale
    active = residual > tolerance
    for _ in range(max_steps):
        if not bool(active.any()):
            break
        mp = apply(p)
        curvature = inner(p, mp)
        active = active & ~(curvature <= 0)
        step = torch.where(active, rz / curvature, 0)
        x = x + per_sample(step, x) * p
        r = r - per_sample(step, r) * mp
        z = precondition(r) if precondition else r
        rz_next = inner(r, z)
        p = z + per_sample(torch.where(active, rz_next / rz, 0), z) * p
        rz = rz_next
        residual = torch.where(active, inner(r, r).sqrt() / scale, residual)
        active = active & (residual > tolerance)
    lost = ~torch.isfinite(residual)
    return x.masked_fill(per_sample(lost, x) != 0, torch.nan), residual.masked_fill(lost, torch.nan)


def least_squares(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    weight: Tensor | float,
    precision: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    """Return the x of least f(x) = (b - A x)^T W (b - A x) + x^T K x, and about its error, for each sample on its own.

    Conjugate gradients for (A^T W A + K) x = A^T W b, with what A x leaves of b kept beside x: where W is large, single
    precision loses the difference of A^T W b and A^T W A x, but not that of b and A x.

    Args:
        forward, adjoint: x -> A x and r -> A^T r, batched.
        weight: the diagonal of W, positive, a number or like b.
        precision: x -> K x, K symmetric positive definite.
        b: [B, ...].
        precondition: r -> P r with P about (A^T W A + K)^{-1}, symmetric positive definite.
        tolerance: of the error in the norm of that matrix, root mean square over the entries of x.
        max_steps: products with it at most.

    Returns:
        x [B, ...] and the norms [B]: what the last step has gained, or, if larger, `CAUTION` times the residual in the
        norm of P. A sample whose numbers stop being finite is NaN in both.

    Source: Hestenes and Stiefel, 1952; Bjoerck, "Numerical methods for least squares problems" (1996), section 7.4.
    """
    left = b
    r = adjoint(weight * left)
    x, kept, z = torch.zeros_like(r), torch.zeros_like(r), precondition(r)
    p, rz, size = z, inner(r, z), r[0].numel()
    error = CAUTION * (rz / size).sqrt()
    active = error > tolerance
    for _ in range(max_steps):
        if not bool(active.any()):
            break
        ap, kp = forward(p), precision(p)
        length = torch.where(active, rz / (inner(ap, weight * ap) + inner(p, kp)), 0)
        step, gained = per_sample(length, p), length * rz
        x, left, kept = x + step * p, left - per_sample(length, ap) * ap, kept + step * kp
        r = adjoint(weight * left) - kept
        z = precondition(r)
        before, rz = rz, inner(r, z)
        p = z + per_sample(torch.where(active, rz / before, 0), z) * p
        error = torch.where(active, (torch.maximum(CAUTION**2 * rz, gained) / size).sqrt(), error)
        active = active & (error > tolerance)
    lost = ~torch.isfinite(error)
    return x.masked_fill(per_sample(lost, x) != 0, torch.nan), error.masked_fill(lost, torch.nan)


def solve(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    precondition: Callable[[Tensor], Tensor] | None = None,
    max_steps: int = 2000,
    bound: float = 1e-3,
) -> Tensor:
    """Return M^{-1} b by conjugate gradients to a relative residual of 1e-6, or fail where it stays above a bound.

    Args:
        apply, b, precondition, max_steps: see `conjugate_gradients`.
        bound: on |b - M x| / |b|, taken from the solution itself: rounding lets the one of the recursion drift.

    Raises:
        ArithmeticError: the residual of a sample is above the bound.
    """
    x, _ = conjugate_gradients(apply, b, precondition=precondition, max_steps=max_steps)
    r = b - apply(x)
    residual = (inner(r, r) / inner(b, b).clamp_min(torch.finfo(b.dtype).tiny)).sqrt()
    if bool((residual > bound).any()):  # what is NaN was so before
        worst = float(residual.nan_to_num(0).max())
        raise ArithmeticError(f"conjugate gradients stopped at a relative residual of {worst:.1e}")
    return x
