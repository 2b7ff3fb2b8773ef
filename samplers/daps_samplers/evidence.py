r"""How well values of an operator's parameters explain a measurement at a noise level, the image left out.

For a linear operator A with Gaussian noise of variance v (a constant beside A is taken from y), and p(x0 | x_t) =
N(m, C),

    p(y | x_t, theta) = N(y; A m, S),    S = A C A^T + v I,

in which C says how much of the misfit r = y - A m is still the image's; A and v depend on the parameters theta. It
takes r^T S^{-1} r and log det S, by the cheapest way that is known:

    dense       few measured numbers: the eigenvalues of A C A^T, exact
    cosine      C diagonal in the cosine basis, and A nearly so: roughly P = D^T diag(G + v) D in the place of S, G the
                operator's `spectrum`; else r^T S^{-1} r by conjugate gradients beside P, and log det S as the sum over
                frequencies of log(G + v), the mean over both directions of each, G then the operator's `waves`
    Lanczos     else: the eigenvalues of A C A^T as r and random signs see them, after so many steps, each colour of
                C by itself where A leaves the channels apart

Where each channel c has a variance v_c of its own, the density is a product of those of each channel given some others
o, with their noise D_o, each of which is again that of a matrix and one variance: with M = A C A^T,

    r_c - K r_o ~ N(0, M_cc - K M_oc + v_c I),    K = M_co (M_oo + D_o)^{-1},

by matrices, or by one of a number for each channel at each frequency (P then is of such blocks). Along v_c only the
density of r_c given all others changes. Lanczos' method does not know it.

Where C is a mean over images, how far that of the image at hand is from it is integrated out (`spectrum`); beside P
that is done around the most likely kappa of the rough evidence, by which both sides of A C A^T are multiplied.

By Lanczos' method from a vector z, z^T f(S) z is about |z|^2 sum_k w_k f(t_k), t_k the eigenvalues of a small
tridiagonal matrix and w_k the squares of the first entries of its eigenvectors; the mean over z of random signs is the
trace of f(S), so f = log gives log det S. The random signs are always the same, so that differences between parameters
are more exact than each.

Gauss-Radau quadrature with a node at 0 errs to the side of too large a misfit, so that few steps do not make small v
likely.

Sources: Golub and Meurant, "Matrices, moments and quadrature" (2010); Ubaru, Chen and Saad, "Fast estimation of
tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal. Appl. 38 (2017); Hestenes and Stiefel, "Methods of
conjugate gradients for solving linear systems", J. Res. Nat. Bur. Standards 49 (1952), for what each step adds to
r^T S^{-1} r; Grenander and Szego, "Toeplitz forms and their applications" (1958), for the determinant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, LinearOperator, Operator, Target
from daps_kit.covariance import (
    CosineCovariance,
    LocalCovariance,
    cosine_filter,
    cosine_inverse,
    cosine_transform,
    in_colours,
)
from daps_kit.noise import GaussianNoise
from daps_kit.noise.model import wide
from daps_kit.parameters import NOISE, Parameters

from .spectrum import Spectrum
from .whitened import random_signs

__all__ = ["Evidence", "known", "lanczos", "white"]

DENSE = 400
"""Numbers of an image and of a measurement up to which matrices are written out."""

PROBES, STEPS = 4, 30
"""Random signs of a trace, and steps of Lanczos' method."""

LEFT, STEPS_BESIDE = 0.1, 200
"""How much of r^T S^{-1} r conjugate gradients may leave out, and their steps at most."""


def known(operator: object) -> bool:
    """Return whether p(y | x_t, theta) may be: linear, and Gaussian noise of one variance or of one a channel."""
    if not isinstance(operator, Operator) or operator.linear_part is None:
        return False
    noise = operator.noise
    return isinstance(noise, GaussianNoise) and (noise.alike or noise.channels is not None)


def white(operator: Operator) -> bool:
    """Return whether an operator is linear with Gaussian noise of one variance."""
    return known(operator) and _variances(operator) is None


def _variances(operator: Operator) -> Tensor | None:
    """Return the variance of the noise of each channel, [c]; None where all have one."""
    return operator.noise.channels if isinstance(operator.noise, GaussianNoise) else None


def _linear(operator: Operator) -> LinearOperator:
    part = operator.linear_part
    assert part is not None
    return part


class Evidence:
    """log p(y | x_t, theta) of the samples of a batch, at one noise level.

    Args:
        parameters: theta.
        target: gives m, C and y; its operator serves where no field of that itself is unknown.

    Attributes:
        rough: whether `rough_log` costs less than `log`, and is not the same.
        average: whether C is a mean over images (see `Spectrum`).
        apart: whether each channel of a measurement has a variance of its own.
        known: whether there is a way for it.
    """

    def __init__(self, parameters: Parameters, target: Target) -> None:
        self.parameters, self.target = parameters, target
        self._own = [place for place, name in enumerate(parameters.names) if not name.startswith(NOISE)]
        self._spectra: dict[tuple[float, ...], Spectrum] = {}
        self._traces: dict[tuple[float, ...], tuple[Tensor, Tensor]] = {}
        self._parts: dict[tuple[float, ...], tuple[Tensor, Tensor, Tensor]] = {}
        self._found: dict[tuple[float, ...], float] = {}
        self.average = target.covariance.average
        self.dense = max(target.centre[0].numel(), target.y[0].numel()) <= DENSE
        first = parameters.row(0)(
            {n: float(u) for n, u in zip(parameters.names, parameters.unknowns, strict=True)}
        )
        self.rough = not self.dense and _linear(first).spectrum(target.covariance) is not None
        self.apart = _variances(first) is not None
        self.known = self.dense or self.rough or not self.apart

    def log(self, values: Tensor, least: Tensor | None = None) -> Tensor:
        """Return log p(y | x_t, theta) of theta [B, P], up to a constant, [B], in double precision.

        Args:
            values: theta.
            least: [B]; where it is smaller than that, something between may be returned, which costs less.
        """
        return self._logs(values, self._log, least)

    def one(self, sample: int, values: Sequence[float]) -> float:
        """Return `log` of one sample, of its theta [P]."""
        operator = self.parameters.row(sample)(dict(zip(self.parameters.names, values, strict=True)))
        return self._log(sample, values, operator, -inf)

    def rough_log(self, values: Tensor) -> Tensor:
        """Return about the same."""
        return self._logs(values, self._rough_log)

    def along_sigma(self, sample: int, values: Sequence[float], place: int, sigma: Tensor) -> Tensor:
        """Return `rough_log` of one sample for many sigma of the noise, [G], up to a constant; [G].

        Args:
            sample: which.
            values: theta, [P].
            place: of sigma, or of that of a channel, among them.
            sigma: what takes its place.
        """
        names = self.parameters.names
        operator = self.parameters.row(sample)(dict(zip(names, values, strict=True)))
        variances = _variances(operator)
        if variances is None:
            return self._spectrum(sample, values, operator).log(sigma.square()).cpu()
        channel = int(names[place].rpartition(".")[2])
        given = [other for other in range(len(variances)) if other != channel]
        return self._of_channel(sample, values, operator, channel, given).log(sigma.square()).cpu()

    def matrix(self, sample: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return A C A^T of what is measured of a sample, [n, n], the misfit, [n], and which numbers are, [N].

        For small images, where no field of the operator itself is unknown.
        """
        operator = self.target.operator
        r = self._misfit(sample, operator)
        (matrix,), (misfit,), _ = self._matrix(sample, _linear(operator), r)
        return matrix, misfit, operator.project(torch.ones_like(r)).flatten() > 0

    def _logs(
        self,
        values: Tensor,
        log: Callable[[int, Sequence[float], Operator, float], float],
        least: Tensor | None = None,
    ) -> Tensor:
        rows, operators = values.tolist(), self.parameters.operators(values)
        bounds = [-inf] * len(rows) if least is None else least.tolist()
        found = [log(b, *each) for b, each in enumerate(zip(rows, operators, bounds, strict=True))]
        return torch.tensor(found, dtype=torch.float64)

    def _rough_log(self, b: int, row: Sequence[float], operator: Operator, least: float = -inf) -> float:
        variances = _variances(operator)
        if variances is None:
            v = torch.tensor([operator.noise.dispersion], dtype=torch.float64)
            return float(self._spectrum(b, row, operator).log(v))
        found = [
            self._of_channel(b, row, operator, channel, range(channel)).log(v[None])
            for channel, v in enumerate(variances)
        ]
        return float(torch.cat(found).sum())

    def _log(self, b: int, row: Sequence[float], operator: Operator, least: float) -> float:
        if not self.rough:
            return self._rough_log(b, row, operator)
        key = (float(b), *row)
        if key in self._found:
            return self._found[key]
        found = self._beside(b, row, operator, least)
        if found >= least:
            self._found[key] = found
        return found

    def _misfit(self, b: int, operator: Operator) -> Tensor:
        """Return r, [1, ...]."""
        return operator.project(self.target.y[b : b + 1] - operator.forward(self.target.centre[b : b + 1]))

    def _spectrum(self, b: int, row: Sequence[float], whole: Operator) -> Spectrum:
        """Return the spectrum of A C A^T as a sample's misfit sees it."""
        own = tuple(row[place] for place in self._own)
        key = (float(b), *own)
        if key not in self._spectra:
            r, operator = self._misfit(b, whole), _linear(whole)
            if self.dense or self.rough:
                found = self._by_matrices(b, operator, r) if self.dense else self._by_cosines(operator, r)
                self._spectra[key] = Spectrum(*found, average=self.average)
            else:
                *rest, groups = self._by_lanczos(b, own, operator, r)
                self._spectra[key] = Spectrum(*rest, average=self.average, groups=groups)
        return self._spectra[key]

    def _of_channel(
        self, b: int, row: Sequence[float], whole: Operator, channel: int, given: Sequence[int]
    ) -> Spectrum:
        """Return the spectrum of what the misfit in a channel is, given that of others with their noise."""
        key = (float(b), *(row[place] for place in self._own))
        if key not in self._parts:
            r, operator = self._misfit(b, whole), _linear(whole)
            parts = self._blocks(operator, r) if self.rough else self._matrix(b, operator, r)
            self._parts[key] = parts
        m, r, channels = self._parts[key]
        variances = _variances(whole)
        assert variances is not None
        own = channels == channel
        others = torch.isin(channels, torch.tensor(list(given), device=channels.device))
        cross = m[:, others][:, :, own]
        noise = torch.diag(variances.to(m)[channels[others]])
        weights = torch.linalg.solve(m[:, others][:, :, others] + noise, cross)
        values, vectors = torch.linalg.eigh(m[:, own][:, :, own] - cross.mT @ weights)
        left = r[:, own, None] - weights.mT @ r[:, others, None]
        energy = (vectors.mT @ left).square().flatten()
        average = self.average and len(energy) > 0
        return Spectrum(values.flatten(), energy, torch.ones_like(energy), average=average)

    def _matrix(self, b: int, operator: LinearOperator, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return A C A^T of what is measured, [1, n, n], the misfit, [1, n], and the channel of each number, [n]."""
        size = self.target.centre[0].numel()
        basis = torch.eye(size, dtype=torch.float64, device=r.device)
        root = self.target.covariance.of(b).sqrt(basis.reshape(size, *self.target.centre.shape[1:]))
        measured = operator.project(torch.ones_like(r)).flatten() > 0
        matrix = operator.forward(root).flatten(1)[:, measured]
        channels = torch.arange(r.shape[1], device=r.device).repeat_interleave(r[0, 0].numel())
        return (matrix.T @ matrix)[None], r.double().flatten()[measured][None], channels[measured]

    def _blocks(self, operator: LinearOperator, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return about the same of each frequency by itself, [h w, c, c] and [h w, c], and the channels, [c]."""
        gains, colours = self._gains(operator)
        q = colours.double()
        blocks = (q * gains.flatten(1).T[:, None]) @ q.T
        along = cosine_transform(r).double().flatten(2)[0].T
        return blocks, along, torch.arange(r.shape[1], device=r.device)

    def _by_matrices(self, b: int, operator: LinearOperator, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return eigenvalues, and what falls on each of |r|^2 and of the number of measured numbers."""
        (matrix,), (misfit,), _ = self._matrix(b, operator, r)
        values, vectors = torch.linalg.eigh(matrix)
        return values, (vectors.T @ misfit).square(), torch.ones_like(values)

    def _by_cosines(self, operator: LinearOperator, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gains, colours = self._gains(operator)
        along = cosine_transform((colours.T @ r.flatten(2)).reshape(r.shape))
        return gains.flatten(), along.double().square().flatten(), torch.ones_like(gains).flatten()

    def _by_lanczos(
        self, b: int, own: tuple[float, ...], operator: LinearOperator, r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the same, and which of them belong to one colour."""
        shared = self.target.covariance
        covariance = shared.of(b)
        # What random signs see is the same for all samples that share A and C.
        alike = covariance is shared and len(self.parameters.builds) == 1
        key = own if alike else (float(b), *own)
        if key not in self._traces:
            signs = operator.project(random_signs(PROBES, r))
            self._traces[key] = _quadrature(operator, covariance, signs)
        values, share = self._traces[key]
        nodes, energy = (
            (t[b] for t in self._of_misfits)
            if not own
            else (t[0] for t in _quadrature(operator, covariance, r, zero=True))
        )
        colours = torch.arange(values.shape[1])[:, None]
        return (
            torch.cat([nodes.flatten(), values.flatten()]),
            torch.cat([energy.flatten(), torch.zeros_like(share).flatten()]),
            torch.cat([torch.zeros_like(energy).flatten(), share.flatten() / PROBES]),
            torch.cat([colours.expand_as(nodes).flatten(), colours.expand_as(values).flatten()]),
        )

    @cached_property
    def _of_misfits(self) -> tuple[Tensor, Tensor]:
        """Return what the misfit of each sample sees, where no field of the operator itself is unknown."""
        operator = self.target.operator
        r = operator.project(self.target.y - operator.forward(self.target.centre))
        return _quadrature(_linear(operator), self.target.covariance, r, zero=True)

    def _gains(self, operator: LinearOperator) -> tuple[Tensor, Tensor]:
        covariance = self.target.covariance
        gains = operator.spectrum(covariance)
        assert gains is not None
        assert isinstance(covariance, CosineCovariance)
        return gains.double(), covariance.colours.to(self.target.y)

    def _beside(self, b: int, row: Sequence[float], whole: Operator, least: float) -> float:
        """Return log N(r; 0, S) beside P, with kappa where P is most likely in the place of what it may be."""
        operator, covariance = _linear(whole), self.target.covariance
        gains, colours = self._gains(operator)
        waves = operator.waves(covariance)
        assert waves is not None
        r = wide(self._misfit(b, whole))
        kappa, volume = torch.ones_like(gains), 0.0
        if self.average:
            factors, volume = self._spectrum(b, row, whole).factors(whole.noise.dispersion)
            kappa = factors.reshape(gains.shape)
        v = whole.noise.std(r).square()
        noise = colours.T.double() @ (v[0, :, :1, 0].double() * colours.double())

        def blocks(gains: Tensor) -> Tensor:
            return torch.diag_embed((kappa * gains.double()).movedim(-3, -1)) + noise

        root, colours, inverse = kappa.sqrt().to(r), colours.to(r), torch.linalg.inv(blocks(gains)).to(r)

        def scaled(z: Tensor) -> Tensor:
            return cosine_filter(z, root, colours) if self.average else z

        def apply(z: Tensor) -> Tensor:
            return scaled(operator.forward(covariance.multiply(operator.adjoint(scaled(z))))) + v * z

        def precondition(z: Tensor) -> Tensor:
            return in_colours(
                z, colours, lambda t: cosine_inverse(_by_frequency(inverse, cosine_transform(t)))
            )

        others = volume - 0.5 * float(torch.logdet(blocks(waves)).mean(0).sum())
        quadratic = _quadratic(apply, r, precondition, float(v.min()), most=2 * (others - least))
        return others - 0.5 * quadratic


def _by_frequency(blocks: Tensor, z: Tensor) -> Tensor:
    """Return matrices [h, w, c, c] times the vectors of z [1, c, h, w]."""
    return (blocks @ z[0].movedim(0, -1)[..., None])[..., 0].movedim(-1, 0)[None]


def _quadratic(
    apply: Callable[[Tensor], Tensor],
    r: Tensor,
    precondition: Callable[[Tensor], Tensor],
    v: float,
    *,
    most: float,
) -> float:
    """Return r^T S^{-1} r by conjugate gradients, as the sum of what each step adds to it.

    What is left is r_k^T S^{-1} r_k with r_k the residual of the solution, at most |r_k|^2 / v, which is counted: where
    steps are too few, a misfit is too large rather than too small.

    Args:
        apply: S.
        r: one vector, of any shape.
        precondition: an approximate inverse of S.
        v: no eigenvalue of S is smaller.
        most: beyond which it is of no interest how large it is.
    """
    z = precondition(r)
    p, along, found, left = z, float((r * z).sum()), 0.0, float(r.square().sum()) / v
    for _ in range(STEPS_BESIDE):
        if left < LEFT or found > most:
            break
        s = apply(p)
        step = along / float((p * s).sum())
        found += step * along
        r = r - step * s
        left = float(r.square().sum()) / v
        z = precondition(r)
        before, along = along, float((r * z).sum())
        p = z + along / before * p
    return found if found > most else found + left


def _quadrature(
    operator: LinearOperator, covariance: Covariance, z: Tensor, *, zero: bool = False
) -> tuple[Tensor, Tensor]:
    """Return eigenvalues of A C A^T as vectors z [B, ...] see them, and what falls on each of |z|^2, [B, c, k].

    Where both A and C leave the c colours of C apart, each is looked at by itself: brightness and colour are far from
    equally uncertain.
    """
    colours = 1
    if isinstance(covariance, CosineCovariance | LocalCovariance) and _channels_alike(operator, z):
        colours = z.shape[1]
        z = (covariance.colours.to(z).T @ z.flatten(2)).reshape(z.shape)
        covariance = covariance.unrotated()

    def apply(v: Tensor) -> Tensor:
        v = v.reshape(z.shape)
        return operator.project(operator.forward(covariance.multiply(operator.adjoint(v)))).reshape(
            rows.shape
        )

    rows = z.reshape(len(z) * colours, -1)
    values, weights = lanczos(apply, rows, STEPS, zero=zero)
    share = weights * rows.square().sum(1).double()[:, None]
    form = (len(z), colours, values.shape[1])
    return values.reshape(form), share.reshape(form)


def _channels_alike(operator: LinearOperator, z: Tensor) -> bool:
    """Return whether each channel of a measurement z [B, ...] is measured of that of the image, all in one way."""
    channels = operator.shape[0]
    if z.ndim != 4 or z.shape[1] != channels:
        return False
    image = random_signs(1, z.new_zeros(1, 1, *operator.shape[1:]))[0]
    found = operator.forward(image.expand(len(z), *operator.shape))
    for channel in range(channels):
        alone = torch.zeros(len(z), *operator.shape, dtype=z.dtype, device=z.device)
        alone[:, channel] = image[0]
        seen = operator.forward(alone)
        same = torch.zeros_like(seen)
        same[:, channel] = found[:, 0]
        if not torch.allclose(seen, same, atol=1e-5 * float(found.abs().max())):
            return False
    return True


def lanczos(
    apply: Callable[[Tensor], Tensor], z: Tensor, steps: int, *, zero: bool = False
) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the quadrature from each of some vectors, [B, k], k = steps, in double precision.

    Args:
        apply: the symmetric map, batched.
        z: [B, ...].
        steps: products with it at most. Vectors are made orthogonal to all before them.
        zero: whether 0 is to be a node (Gauss-Radau): of a map that is not negative, z^T (S + v I)^{-1} z then comes
            out too large rather than too small where the steps are too few.
    """
    tiny = torch.finfo(z.dtype).tiny
    flat = z.flatten(1)
    basis = z.new_zeros(len(z), steps, flat.shape[1])
    basis[:, 0] = flat / flat.norm(dim=1, keepdim=True).clamp_min(tiny)
    tridiagonal = torch.zeros(len(z), steps, steps, dtype=torch.float64, device=z.device)
    for k in range(steps):
        w = apply(basis[:, k].reshape(z.shape)).flatten(1)
        tridiagonal[:, k, k] = (basis[:, k] * w).sum(1).double()
        if k + 1 == steps:
            break
        known = basis[:, : k + 1]
        for _ in range(2):
            w = w - (known.mT @ (known @ w[:, :, None]))[:, :, 0]
        beta = w.norm(dim=1, keepdim=True)
        # Where nothing is left, the matrix falls apart and its first block is all there is.
        left = beta > 1e-6 * tridiagonal[:, k, k].abs()[:, None].to(beta)
        size = torch.where(left, beta, 0.0)[:, 0].double()
        tridiagonal[:, k, k + 1] = tridiagonal[:, k + 1, k] = size
        basis[:, k + 1] = torch.where(left, w / beta.clamp_min(tiny), 0.0)
    if zero and steps > 1:
        inner, beta = tridiagonal[:, :-1, :-1].clone(), tridiagonal[:, -2, -1]
        # What is added keeps it from being singular where fewer steps were possible.
        inner.diagonal(dim1=1, dim2=2).add_(
            1e-12 * inner.diagonal(dim1=1, dim2=2).amax(1, keepdim=True) + tiny
        )
        unit = torch.zeros_like(inner[:, :, :1])
        unit[:, -1] = 1
        tridiagonal[:, -1, -1] = beta.square() * torch.linalg.solve(inner, unit)[:, -1, 0]
    values, vectors = torch.linalg.eigh(tridiagonal)
    return values, vectors[:, 0].square()
