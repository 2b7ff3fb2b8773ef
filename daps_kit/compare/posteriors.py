r"""Posteriors that are known: a prior with an exact denoiser, a measurement, and exact samples of p(x0 | y).

    gaussian            x0 ~ N(m, C) of 32 elements, eigenvalues of C falling as 1 / k; 8 are measured
    mixture-D-M         25 Gaussians in D elements, M measured: those of MCGDiff (arXiv 2308.07983), over 16
    bipsda-low, -high   three Gaussians in 10 elements, 8 of them measured with little noise or much: the inpainting of
                        BIPSDA (arXiv 2503.03007), over 8
    bipsda-phase, -xray the same prior: phase retrieval and transmission tomography of BIPSDA
    levy-LAW-OPERATOR   walks of 64 steps with independent increments (`daps_kit.compare.levy`)

Posteriors of mixtures and linear operators are mixtures, too (`daps_kit.compare.mixture`); the walks are sampled by
Gibbs, and the nonlinear problems by tempering (`daps_kit.compare.tempering`). BIPSDA's operators are

    bipsda-phase        y = (A x)^2 + 25 n, A of 5 x 10 normal numbers
    bipsda-xray         y ~ Poisson(1000 exp(-A (x + 10))), A of 15 x 10 numbers uniform on [0.01, 0.05]

with the A that the authors drew; the rotation of the third Gaussian's covariance is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from daps_kit.contracts import GaussianNoise, Operator, PoissonNoise, Prior, RandomStreams
from daps_kit.errors import UserError, did_you_mean

from .document import LEVY
from .levy import Gibbs, LevyWalk, levy_operator
from .matrix import Matrix, Squares, Transmission
from .mixture import MixtureOfGaussians
from .tempering import Tempered

__all__ = ["KnownPosterior", "known_posterior"]


@dataclass(frozen=True)
class KnownPosterior:
    """A task whose answer is known.

    Attributes:
        prior: over images [1, 1, d].
        operator: what is measured.
        truth: x0, [d].
        y: the measurement, [m].
        exact: a number of samples and a seed -> exact samples of the posterior, [N, d].
        unit: what elements are divided by; distances are told in the original units.
    """

    prior: Prior
    operator: Operator
    truth: Tensor
    y: Tensor
    exact: Callable[[int, int], Tensor]
    unit: float


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


def _bipsda_prior() -> MixtureOfGaussians:
    draw, size = torch.Generator().manual_seed(3000), 10  # the same for all measurements
    ones = torch.ones(size, dtype=torch.float64)
    ramp = torch.linspace(1, 2, size, dtype=torch.float64)
    basis = _rotation(draw, size)
    covariances = torch.stack(
        [torch.eye(size, dtype=torch.float64), torch.diag(ramp), basis.T * ramp @ basis]
    )
    return MixtureOfGaussians(
        torch.stack([-5 * ones, 0 * ones, 5 * ones]) / 8, covariances / 64, torch.tensor([0.4, 0.3, 0.3])
    )


def _bipsda(sigma: float, seed: int) -> KnownPosterior:
    seen = torch.eye(10, dtype=torch.float64)[[0, 1, 2, 4, 5, 6, 7, 9]]
    return _Linear(_bipsda_prior(), Matrix(seen, sigma / 8), 8.0, seed).whole


def _bipsda_phase(seed: int) -> KnownPosterior:
    matrix = torch.randn((5, 10), generator=torch.Generator().manual_seed(0)).double()
    return _tempered(Squares(matrix, GaussianNoise(25 / 64)), seed)  # over 64, of x over 8


def _bipsda_xray(seed: int) -> KnownPosterior:
    matrix = 0.01 + 0.04 * torch.rand((15, 10), generator=torch.Generator().manual_seed(0)).double()
    return _tempered(Transmission(8 * matrix, 10 / 8, PoissonNoise(1000)), seed)


def _tempered(operator: Operator, seed: int) -> KnownPosterior:
    prior = _bipsda_prior()
    truth = prior.draw(1, torch.Generator().manual_seed(seed))[0]
    y = operator.measure(truth[None, None, None], RandomStreams([5000 + seed]))[0]
    return KnownPosterior(prior, operator, truth, y, Tempered(prior, operator, y, seed), 8.0)


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
    "bipsda-phase": _bipsda_phase,
    "bipsda-xray": _bipsda_xray,
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
