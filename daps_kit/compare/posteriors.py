r"""Posteriors that are known: a prior with an exact denoiser, a measurement, and exact samples of p(x0 | y).

    gaussian            x0 ~ N(m, C) of 32 elements, eigenvalues of C falling as 1 / k; 8 are measured
    mixture-D-M         25 Gaussians in D elements, M measured: those of MCGDiff (arXiv 2308.07983), over 16
    bipsda-low, -high   three Gaussians in 10 elements, 8 of them measured with little noise or much: the inpainting of
                        BIPSDA (arXiv 2503.03007), over 8
    levy-LAW-OPERATOR   walks of 64 steps with independent increments (`daps_kit.compare.levy`)

The walks are sampled by Gibbs. A mixture of Gaussians, x0 ~ sum_k w_k N(m_k, C_k), has denoiser, Cov[x0 | x_t] and
posterior in closed form. With
C_k = Q_k diag(l_k) Q_k^T and v_k = l_k + sigma^2,

    r_k         proportional to w_k N(x_t; m_k, C_k + sigma^2 I)
    E[x0 | x_t] = sum_k r_k e_k,    e_k = m_k + Q_k (l_k / v_k) Q_k^T (x_t - m_k)
    Cov         = sum_k r_k (Q_k diag(l_k sigma^2 / v_k) Q_k^T + (e_k - E)(e_k - E)^T)

and the posterior is the mixture of the components' posteriors, weighted by w_k N(y; A m_k, A C_k A^T + sigma_y^2 I).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Prior, RandomStreams
from daps_kit.errors import UserError, did_you_mean

from .document import LEVY
from .levy import Gibbs, LevyWalk, levy_operator
from .matrix import Dense, Matrix

__all__ = ["KnownPosterior", "MixtureOfGaussians", "known_posterior"]

DRAWS = 2000


@dataclass(frozen=True)
class KnownPosterior:
    """A task whose answer is known.

    Attributes:
        prior: over images [1, 1, d].
        operator: y = A x.
        truth: x0, [d].
        y: the measurement, [m].
        exact: a number of samples and a seed -> exact samples of the posterior, [N, d].
        unit: what elements are divided by; distances are told in the original units.
    """

    prior: Prior
    operator: LinearOperator
    truth: Tensor
    y: Tensor
    exact: Callable[[int, int], Tensor]
    unit: float


class MixtureOfGaussians(Prior):
    """x0 ~ sum_k w_k N(m_k, C_k) over images [1, 1, d], in double precision.

    Args:
        means: m_k, [K, d].
        covariances: C_k, [K, d, d].
        weights: w_k, [K].
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor) -> None:
        self.means, self.weights = means.double(), weights.double() / weights.sum()
        self.covariances = covariances.double()
        self._values, self._vectors = torch.linalg.eigh(self.covariances)
        self.shape = (1, 1, means.shape[1])
        self._known: dict[float, Dense] = {}

    def _parts(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return r_k [B, K], e_k [B, K, d] and sigma^2 [B or 1, 1, 1]."""
        flat = x.double().flatten(1)[:, None] - self.means.to(x.device)
        noise = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1, 1) ** 2
        vectors, values = self._vectors.to(x.device), self._values.to(x.device)
        z = torch.einsum("bkd,kde->bke", flat, vectors)
        spread = values + noise
        logs = self.weights.log().to(x.device) - (z.square() / spread + spread.log()).sum(2) / 2
        guess = self.means.to(x.device) + torch.einsum("bke,kde->bkd", values / spread * z, vectors)
        return logs.softmax(1), guess, noise

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x_t = x]."""
        share, guess, _ = self._parts(x, sigma)
        return (share[..., None] * guess).sum(1).reshape(x.shape).to(x.dtype)

    @torch.no_grad()
    def _covariances(self, x: Tensor, sigma: float) -> Tensor:
        share, guess, noise = self._parts(x, sigma)
        vectors, values = self._vectors.to(x.device), self._values.to(x.device)
        within = torch.einsum("kde,ke,kfe->kdf", vectors, (values * noise / (values + noise))[0], vectors)
        apart = guess - (share[..., None] * guess).sum(1, keepdim=True)
        between = torch.einsum("bk,bkd,bkf->bdf", share, apart, apart)
        return torch.einsum("bk,kdf->bdf", share, within) + between

    def conditional_covariance(self, x: Tensor, sigma: float) -> Dense:
        """Return Cov[x0 | x_t = x]."""
        return Dense(self._covariances(x, sigma))

    def denoising_covariance(self, sigma: float) -> Dense:
        """Return its mean over x_t, by draws of x_t."""
        if sigma not in self._known:
            draw = torch.Generator().manual_seed(0)
            x0 = self.draw(DRAWS, draw)
            x_t = x0 + sigma * torch.randn(x0.shape, generator=draw, dtype=torch.float64)
            self._known[sigma] = Dense(self._covariances(x_t[:, None, None], sigma).mean(0))
        return self._known[sigma]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw x0, [N, d]."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        normal = torch.randn((count, self.means.shape[1]), generator=generator, dtype=torch.float64)
        root = self._vectors * self._values.clamp_min(0).sqrt()[:, None]
        return self.means[chosen] + torch.einsum("bde,be->bd", root[chosen], normal)

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw exactly."""
        seeds = (streams.uniform((), torch.float64) * 2**53).long().tolist()
        drawn = [self.draw(1, torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(drawn)[:, None, None]

    def given(self, operator: Matrix, y: Tensor) -> MixtureOfGaussians:
        """Return p(x0 | y), a mixture, too."""
        a, noise = operator.matrix, operator.sigma**2
        cross = self.covariances @ a.T  # C A^T
        evidence = a @ cross + noise * torch.eye(len(a), dtype=torch.float64)
        gain = torch.linalg.solve(evidence, cross.mT).mT
        apart = y.double() - self.means @ a.T
        misfit = (apart * torch.linalg.solve(evidence, apart)).sum(1)
        logs = -(misfit + torch.linalg.slogdet(evidence).logabsdet) / 2
        covariances = self.covariances - gain @ cross.mT
        means = self.means + torch.einsum("kdm,km->kd", gain, apart)
        return MixtureOfGaussians(
            means, (covariances + covariances.mT) / 2, (self.weights.log() + logs).softmax(0)
        )


@dataclass(frozen=True)
class _Linear:
    """A mixture seen through a matrix."""

    prior: MixtureOfGaussians
    operator: Matrix
    unit: float
    seed: int

    @cached_property
    def whole(self) -> KnownPosterior:
        draw = torch.Generator().manual_seed(self.seed)
        truth = self.prior.draw(1, draw)[0]
        noise = torch.randn(len(self.operator.matrix), generator=draw, dtype=torch.float64)
        y = self.operator.matrix @ truth + self.operator.sigma * noise
        posterior = self.prior.given(self.operator, y)

        def exact(count: int, seed: int) -> Tensor:
            return posterior.draw(count, torch.Generator().manual_seed(seed))

        return KnownPosterior(self.prior, self.operator, truth, y, exact, self.unit)


def _normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def _rotation(draw: torch.Generator, size: int) -> Tensor:
    rotation: Tensor = torch.linalg.qr(_normal(draw, size, size))[0]
    return rotation


def _gaussian(seed: int) -> KnownPosterior:
    draw, size = torch.Generator().manual_seed(1000 + seed), 32
    basis = _rotation(draw, size)
    spread = 0.25 / torch.arange(1, size + 1, dtype=torch.float64)
    prior = MixtureOfGaussians(
        0.2 * _normal(draw, 1, size), (basis * spread @ basis.T)[None], torch.ones(1, dtype=torch.float64)
    )
    return _Linear(prior, Matrix(_rotation(draw, size)[:8], 0.05), 1.0, seed).whole


def _mixture(size: int, measured: int, seed: int) -> KnownPosterior:
    draw = torch.Generator().manual_seed(2000 + seed)
    steps = torch.arange(-2.0, 3.0, dtype=torch.float64)
    means = torch.cartesian_prod(steps, steps).repeat(1, size // 2) * 8 / 16
    weights = -torch.rand(len(means), generator=draw, dtype=torch.float64).log()  # uniform on the simplex
    spread = torch.eye(size, dtype=torch.float64).expand(len(means), size, size) / 16**2
    left, _, right = torch.linalg.svd(_normal(draw, measured, size), full_matrices=False)
    values = torch.rand(measured, generator=draw, dtype=torch.float64).sort(descending=True).values
    share = float(torch.rand(1, generator=draw, dtype=torch.float64).clamp_min(0.01))
    operator = Matrix(left @ torch.diag(values) @ right, float(values[0]) * share / 16)
    return _Linear(MixtureOfGaussians(means, spread, weights), operator, 16.0, seed).whole


def _bipsda(sigma: float, seed: int) -> KnownPosterior:
    draw, size = torch.Generator().manual_seed(3000), 10  # the prior is the same for all measurements
    ones = torch.ones(size, dtype=torch.float64)
    ramp = torch.linspace(1, 2, size, dtype=torch.float64)
    basis = _rotation(draw, size)
    covariances = torch.stack(
        [torch.eye(size, dtype=torch.float64), torch.diag(ramp), basis.T * ramp @ basis]
    )
    prior = MixtureOfGaussians(
        torch.stack([-5 * ones, 0 * ones, 5 * ones]) / 8, covariances / 64, torch.tensor([0.4, 0.3, 0.3])
    )
    seen = torch.eye(size, dtype=torch.float64)[[0, 1, 2, 4, 5, 6, 7, 9]]
    return _Linear(prior, Matrix(seen, sigma / 8), 8.0, seed).whole


def _levy(law: str, name: str, seed: int) -> KnownPosterior:
    prior = LevyWalk(law)
    operator, draw = levy_operator(prior, name), torch.Generator().manual_seed(4000 + seed)
    truth = prior.draw(1, draw)[0]
    y = operator.matrix @ truth + operator.sigma * _normal(draw, len(operator.matrix))
    return KnownPosterior(prior, operator, truth, y, Gibbs(prior, operator, y, seed), prior.unit)


_MAKERS: dict[str, Callable[[int], KnownPosterior]] = {
    "gaussian": _gaussian,
    **{f"mixture-{d}-{m}": lambda seed, d=d, m=m: _mixture(d, m, seed) for d in (8, 80) for m in (1, 2, 4)},  # type: ignore[misc]
    "bipsda-low": lambda seed: _bipsda(0.1, seed),
    "bipsda-high": lambda seed: _bipsda(5.0, seed),
    **{
        f"levy-{law}-{name}": lambda seed, law=law, name=name: _levy(law, name, seed)  # type: ignore[misc]
        for law, name in LEVY
    },
}


def known_posterior(name: str, seed: int) -> KnownPosterior:
    """Return a task; another seed is another measurement.

    Raises:
        UserError: there is none of this name.
    """
    if name not in _MAKERS:
        raise UserError(
            f"unknown posterior '{name}'; there are {', '.join(_MAKERS)}{did_you_mean(name, _MAKERS)}"
        )
    return _MAKERS[name](seed)
