r"""The covariance of x0 given x_t as the derivative of the denoiser tells it.

It is for priors that know nothing of their error.

For the exact denoiser

    Cov[x0 | x_t] = sigma^2 dD(x_t, sigma) / dx_t,

a symmetric matrix without negative eigenvalues. Products with it are products with the transposed Jacobian, one
backward pass through the network each. The root of a covariance times v comes from K steps of Lanczos' recursion, which
finds orthonormal V, [d, K], with v = |v| V e_1 and V^T C V = T tridiagonal:

    C^{1/2} v ~ |v| V T^{1/2} e_1,

exact where C has at most K different eigenvalues. A network's Jacobian is only nearly symmetric: it is taken for it,
and negative eigenvalues of T count as 0.

Sources: Rozet et al., "Learning Diffusion Priors from Observations by Expectation Maximization", NeurIPS 2024, arXiv
2405.13712, for the Jacobian in conjugate gradients; Druskin and Knizhnerman, "Extended Krylov subspaces", SIAM J.
Matrix Anal. Appl. 19 (1998), and Chow and Saad, "Preconditioned Krylov subspace methods for sampling multivariate
Gaussian distributions", SIAM J. Sci. Comput. 36 (2014), for the root.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Prior
from daps_kit.linalg import conjugate_gradients, inner, per_sample

__all__ = ["DenoiserCovariance", "lanczos_sqrt"]

STEPS = 24
"""Lanczos steps for a root, and so backward passes."""

SOLVED = 1e-5
"""Relative residual of what is solved for with C."""


class DenoiserCovariance(Covariance):
    """C = sigma^2 dD / dx_t of each sample.

    Args:
        prior: its denoiser must be differentiable.
        x: x_t, [B, ...].
        sigma: its noise level.
    """

    def __init__(self, prior: Prior, x: Tensor, sigma: float) -> None:
        self.prior, self.sigma = prior, sigma
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._denoised = prior.denoise(self._x, sigma)

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v, [B, ...]."""
        (product,) = torch.autograd.grad(self._denoised, self._x, v.to(self._denoised), retain_graph=True)
        return self.sigma**2 * product.to(v)

    def of(self, sample: int) -> DenoiserCovariance:
        """Return that of one sample."""
        x = self._x.detach()
        return DenoiserCovariance(self.prior, x[sample : sample + 1], self.sigma) if len(x) > 1 else self

    def sqrt(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v with the symmetric root, to `STEPS` steps of Lanczos."""
        return lanczos_sqrt(self.multiply, v, STEPS)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v by conjugate gradients; of what C leaves no room for as much as they find."""
        return conjugate_gradients(self.multiply, v, tolerance=SOLVED, max_steps=2 * STEPS)[0]


def lanczos_sqrt(multiply: Callable[[Tensor], Tensor], v: Tensor, steps: int) -> Tensor:
    """Return C^{1/2} v of each sample, [B, ...].

    Args:
        multiply: v -> C v, batched, symmetric and positive semidefinite.
        v: [B, ...].
        steps: products with C at most.
    """
    steps = min(steps, v[0].numel())
    norm = inner(v, v).sqrt()
    tiny = torch.finfo(v.dtype).tiny
    q = v / per_sample(norm.clamp_min(tiny), v)
    basis, diagonal, beside = [q], [], []
    largest = torch.zeros_like(norm)
    for k in range(steps):
        w = multiply(q)
        diagonal.append(inner(q, w))
        for _ in range(2):  # twice is enough
            for p in basis:
                w = w - per_sample(inner(p, w), w) * p
        length = inner(w, w).sqrt()
        largest = torch.maximum(largest, diagonal[-1].abs() + length)
        # Where nothing is left but rounding, the space is complete.
        length = torch.where(length > 1e3 * torch.finfo(v.dtype).eps * largest, length, 0)
        if k + 1 == steps or not bool(length.any()):
            break
        beside.append(length)
        q = torch.where(per_sample(length, w) > 0, w / per_sample(length.clamp_min(tiny), w), 0)
        basis.append(q)
    matrix = torch.diag_embed(torch.stack(diagonal, 1).double())
    if beside:
        off = torch.diag_embed(torch.stack(beside, 1).double(), offset=1)
        matrix = matrix + off + off.mT
    values, vectors = torch.linalg.eigh(matrix)
    first = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors[:, 0, :, None]
    weight = first[..., 0].to(v) * norm[:, None]
    out = torch.zeros_like(v)
    for k, q in enumerate(basis):
        out = out + per_sample(weight[:, k], v) * q
    return out
