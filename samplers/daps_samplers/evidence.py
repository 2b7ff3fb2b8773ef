r"""How well values of an operator's parameters explain a measurement at a noise level, the image left out.

For a linear operator A with Gaussian noise of variance v (a constant beside A is taken from y), and p(x0 | x_t) =
N(m, C),

    p(y | x_t, theta) = N(y; A m, S),    S = A C A^T + v I,

in which C says how much of the misfit r = y - A m is still the image's; A and v depend on the parameters theta. It
takes r^T S^{-1} r and log det S, by the cheapest way that is known:

    dense       few measured numbers: the eigenvalues of A C A^T, exact
    cosine      C diagonal in the cosine basis, and A nearly so: with P = D^T diag(G + v) D, G the operator's
                `spectrum`, roughly P in the place of S; then P^{-1/2} S P^{-1/2}, which is nearly I, by Lanczos' method
    Lanczos     else: the eigenvalues of A C A^T as r and random signs see them, after so many steps

By Lanczos' method from a vector z, z^T f(S) z is about |z|^2 sum_k w_k f(t_k), t_k the eigenvalues of a small
tridiagonal matrix and w_k the squares of the first entries of its eigenvectors; the mean over z of random signs is the
trace of f(S), so f = log gives log det S. The random signs are always the same, so that differences between parameters
are more exact than each.

Sources: Golub and Meurant, "Matrices, moments and quadrature" (2010); Ubaru, Chen and Saad, "Fast estimation of
tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal. Appl. 38 (2017); Wenger, Pleiss, Hennig, Cunningham
and Gardner, "Preconditioning for scalable Gaussian process hyperparameter optimization", ICML 2022, for what is left of
the trace beside a preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Operator, Target
from daps_kit.covariance import CosineCovariance, cosine_filter, cosine_transform
from daps_kit.noise import GaussianNoise
from daps_kit.noise.model import wide
from daps_kit.parameters import NOISE, Parameters

from .whitened import random_signs

__all__ = ["Evidence", "Spectrum", "known", "lanczos"]

DENSE = 400
"""Numbers of an image and of a measurement up to which matrices are written out."""

PROBES, STEPS = 4, 30
"""Random signs of a trace, and steps of Lanczos' method."""

PROBES_BESIDE, STEPS_BESIDE = 2, 6
"""The same beside a preconditioner."""


def known(operator: object) -> bool:
    """Return whether p(y | x_t, theta) is known: for a linear operator with Gaussian noise of one variance."""
    if not isinstance(operator, Operator) or not isinstance(operator.noise, GaussianNoise):
        return False
    if operator.linear_part is None:
        return False
    return not isinstance(operator.noise.curvature(torch.zeros(1), torch.zeros(1)), Tensor)


def _linear(operator: Operator) -> LinearOperator:
    part = operator.linear_part
    assert part is not None
    return part


class Spectrum:
    """Eigenvalues of A C A^T, with what falls on each of |r|^2 and of the number of measured numbers.

    Args:
        values: the eigenvalues, not negative, [k].
        energy: of r, [k].
        count: [k].
    """

    def __init__(self, values: Tensor, energy: Tensor, count: Tensor) -> None:
        self.values, self.energy, self.count = (t.double() for t in (values.clamp_min(0), energy, count))

    def log(self, v: float) -> float:
        """Return log N(r; 0, A C A^T + v I), up to a constant."""
        total = self.values + v
        return float(-0.5 * (self.energy / total + self.count * total.log()).sum())


class Evidence:
    """log p(y | x_t, theta) of the samples of a batch, at one noise level.

    Args:
        parameters: theta.
        target: gives m, C and y; its operator is not used.

    Attributes:
        rough: whether `rough_log` costs less than `log`, and is not the same.
    """

    def __init__(self, parameters: Parameters, target: Target) -> None:
        self.parameters, self.target = parameters, target
        self._own = [place for place, name in enumerate(parameters.names) if not name.startswith(NOISE)]
        self._spectra: dict[tuple[float, ...], Spectrum] = {}
        self.dense = max(target.centre[0].numel(), target.y[0].numel()) <= DENSE
        first = parameters.row(0)(
            {n: float(u) for n, u in zip(parameters.names, parameters.unknowns, strict=True)}
        )
        self.rough = not self.dense and _linear(first).spectrum(target.covariance) is not None

    def log(self, values: Tensor) -> Tensor:
        """Return log p(y | x_t, theta) of theta [B, P], up to a constant, [B], in double precision."""
        return self._logs(values, rough=False)

    def rough_log(self, values: Tensor) -> Tensor:
        """Return about the same."""
        return self._logs(values, rough=True)

    def _logs(self, values: Tensor, *, rough: bool) -> Tensor:
        found = []
        for b, (row, operator) in enumerate(
            zip(values.tolist(), self.parameters.operators(values), strict=True)
        ):
            if self.rough and not rough:
                found.append(self._beside(b, operator))
                continue
            key = (float(b), *(row[place] for place in self._own))
            if key not in self._spectra:
                self._spectra[key] = self._spectrum(b, operator)
            found.append(self._spectra[key].log(operator.noise.dispersion))
        return torch.tensor(found, dtype=torch.float64)

    def _misfit(self, b: int, operator: Operator) -> Tensor:
        """Return r, [1, ...]."""
        return operator.project(self.target.y[b : b + 1] - operator.forward(self.target.centre[b : b + 1]))

    def _spectrum(self, b: int, whole: Operator) -> Spectrum:
        """Return the spectrum of A C A^T as a sample's misfit sees it."""
        r, operator = self._misfit(b, whole), _linear(whole)
        covariance = self.target.covariance.of(b)
        if self.dense:
            size = self.target.centre[0].numel()
            basis = torch.eye(size, dtype=torch.float64, device=r.device)
            root = covariance.sqrt(basis.reshape(size, *self.target.centre.shape[1:]))
            measured = operator.project(torch.ones_like(r)).flatten() > 0
            matrix = operator.forward(root).flatten(1)[:, measured]
            values, vectors = torch.linalg.eigh(matrix.T @ matrix)
            along = vectors.T @ r.double().flatten()[measured]
            return Spectrum(values, along.square(), torch.ones_like(values))
        if self.rough:
            gains, colours = self._gains(operator)
            along = cosine_transform((colours.T @ r.flatten(2)).reshape(r.shape))
            return Spectrum(
                gains.flatten(), along.double().square().flatten(), torch.ones_like(gains).flatten()
            )

        def apply(z: Tensor) -> Tensor:
            return operator.project(operator.forward(covariance.multiply(operator.adjoint(z))))

        z = torch.cat([r, operator.project(random_signs(PROBES, r))])
        values, weights = lanczos(apply, z, STEPS)
        share = weights * z.square().flatten(1).sum(1).double()[:, None]
        zero = torch.zeros_like(share)
        energy, count = zero.clone(), zero
        energy[0] = share[0]
        count[1:] = share[1:] / PROBES
        return Spectrum(values.flatten(), energy.flatten(), count.flatten())

    def _gains(self, operator: LinearOperator) -> tuple[Tensor, Tensor]:
        covariance = self.target.covariance
        gains = operator.spectrum(covariance)
        assert gains is not None
        assert isinstance(covariance, CosineCovariance)
        return gains.double(), covariance.colours.to(self.target.y)

    def _beside(self, b: int, whole: Operator) -> float:
        """Return log N(r; 0, S) by P and what S is beside it."""
        operator = _linear(whole)
        # In double precision: what is left of P^{-1/2} S P^{-1/2} is a small difference.
        gains, colours = self._gains(operator)
        v, covariance = whole.noise.dispersion, self.target.covariance
        misfit = wide(self._misfit(b, whole))
        whiten, colours = (gains + v).rsqrt().to(misfit), colours.to(misfit)

        def apply(z: Tensor) -> Tensor:
            z = cosine_filter(z, whiten, colours)
            z = operator.forward(covariance.multiply(operator.adjoint(z))) + v * z
            return cosine_filter(z, whiten, colours)

        r = cosine_filter(misfit, whiten, colours)
        z = torch.cat([r, random_signs(PROBES_BESIDE, r)])
        values, weights = lanczos(apply, z, STEPS_BESIDE)
        size = z.square().flatten(1).sum(1).double()
        values = values.clamp_min(1e-6)
        quadratic = float(size[0] * (weights[0] / values[0]).sum())
        trace = float((size[1:, None] * weights[1:] * values[1:].log()).sum()) / PROBES_BESIDE
        return -0.5 * (quadratic + trace + float((gains + v).log().sum()))


def lanczos(apply: Callable[[Tensor], Tensor], z: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the quadrature from each of some vectors, [B, k], k = steps, in double precision.

    Args:
        apply: the symmetric map, batched.
        z: [B, ...].
        steps: products with it at most. Vectors are made orthogonal to all before them.
    """
    flat = z.flatten(1)
    scale = flat.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    basis = [flat / scale]
    tridiagonal = torch.zeros(len(z), steps, steps, dtype=torch.float64, device=z.device)
    for k in range(steps):
        w = apply(basis[-1].reshape(z.shape)).flatten(1)
        tridiagonal[:, k, k] = (basis[-1] * w).sum(1).double()
        for _ in range(2):
            for q in basis:
                w = w - (q * w).sum(1, keepdim=True) * q
        beta = w.norm(dim=1, keepdim=True)
        if k + 1 < steps:
            # Where nothing is left, the matrix falls apart and its first block is all there is.
            left = beta > 1e-6 * tridiagonal[:, k, k].abs()[:, None].to(beta)
            size = torch.where(left, beta, 0.0)[:, 0].double()
            tridiagonal[:, k, k + 1] = tridiagonal[:, k + 1, k] = size
            basis.append(torch.where(left, w / beta.clamp_min(torch.finfo(z.dtype).tiny), 0.0))
    values, vectors = torch.linalg.eigh(tridiagonal)
    return values, vectors[:, 0].square()
