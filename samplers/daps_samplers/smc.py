r"""Sequential Monte Carlo: the samples of a measurement are particles, weighted and resampled on their way.

Each particle does what DAPS does (`daps`), with the ancestral step. From x_t at noise level t to x_s at s,

    x0y ~ q(x0 | x_t, y), proportional to N(x0; D, C) p(y | x0),    D = D(x_t, t), C = Cov[x0 | x_t],
    x_s = (1 - k) x0y + k x_t + b n,    k = c s / t,    b = s sqrt(1 - c^2),    c = (s / t)^forgetting,   n ~ N(0, I).

Were x0 drawn from N(D, C) instead, this would be a step M(x_s | x_t) of the prior. The prior's path, twisted by what y
is expected to be at each level, is the sequence of targets

    gamma_i = p(x_{t_0}) M(x_{t_1} | x_{t_0}) ... M(x_{t_i} | x_{t_{i-1}}) Z(x_{t_i}),
    Z(x_t) = int N(x0; D, C) p(y | x0) dx0 = N(y; A D, A C A^T + V),    V the covariance of the noise.

Z is the normalisation of q, so the particles' own step K and M differ by

    K(x_s | x_t) = M(x_s | x_t) p(y | x_t, x_s) / Z(x_t),
    p(y | x_t, x_s) = int p(x0 | x_t, x_s) p(y | x0) dx0 = N(y; A m, A C' A^T + V),

where p(x0 | x_t, x_s) = N(m, C') is N(D, C) after one more observation, z = (x_s - k x_t) / (1 - k) = x0 + B^{1/2} n'
of variance B = b^2 / (1 - k)^2:

    m = D + C (C + B I)^{-1} (z - D),    C' = C - C (C + B I)^{-1} C.

So the weight of a particle is multiplied by

    gamma_s / (gamma_t K) = Z(x_s) / p(y | x_t, x_s).

It is 1 for a Gaussian prior and c = s / t, where p(x0 | x_t, x_s) = p(x0 | x_s): all weights then stay equal, and the
particles are independent draws. Elsewhere the weights carry from mode to mode what the Gaussian got wrong. Where the
effective sample size 1 / sum w^2 falls below half of the particles, and at the end, they are resampled: systematically,
and whoever survives stays in its place. The limit of many particles and levels is p(x0 | y), modes and all.

The particles of a measurement are the samples of a batch with equal y: they have to be drawn together (`together`), and
depend on each other. A lost particle has no weight; another takes its place.

Sources: Wu et al., arXiv 2306.17775 (twisted targets); Kelvinius, Zhao and Lindsten, arXiv 2502.06379 (decoupled steps
in them); Kitagawa, J. Comput. Graph. Stat. 5 (1996), for systematic resampling.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Operator, Prior, RandomStreams, Step, Target
from daps_kit.linalg import conjugate_gradients

from .daps import DAPS
from .exact import applies
from .log import lost, not_finite, replaced
from .states import FromNoise

__all__ = ["MOST", "SMC", "resampled"]

MOST = 64
"""Measured numbers at most: the determinants of the weights are those of dense matrices of this size."""

ESS = 0.5
"""Share of the particles below which the effective sample size calls for resampling."""

SOLVED = 1e-7
"""Relative residual of the solutions with C + B I."""


class SMC(DAPS):
    """Sequential Monte Carlo with DAPS steps; its arguments are those of `DAPS`."""

    together, infers = True, False

    def refusal(self, prior: Prior, operator: Operator) -> str:
        """Return why the weights are not known: a latent prior, other noise, a nonlinear operator or a large one."""
        if prior.latent or not applies(operator):
            return (
                "sampler 'smc' takes linear operators of images with Gaussian noise alone; 'daps' takes any"
            )
        count = operator.forward(torch.zeros(1, *operator.shape)).numel()
        if count > MOST:
            return (
                f"sampler 'smc' takes at most {MOST} measured numbers, not {count}: the weights of so many would leave "
                "one particle alone; 'daps' takes any"
            )
        return ""

    def _is_free(self) -> bool:
        """Return False: the weights are those of states that know nothing of y."""
        return False

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        """Yield one Step a level; the samples of equal measurements are particles of one system.

        Random numbers are drawn in a fixed order: x_t at the start; at each level a uniform one a sample (that of the
        first of a system resamples it), those of the kernel and, except at the last, those of x_t.

        Raises:
            ValueError: the number of streams is not that of the measurements.
        """
        if len(streams) != len(y):
            raise ValueError(f"{len(y)} measurements need as many random streams, got {len(streams)}")
        run = self._begin(prior, operator, y, streams, None)
        systems, sigmas, states = _systems(y), run.sigmas, run.states
        assert isinstance(states, FromNoise)
        failed = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        x_t, log_weight, expected = (
            states.first(),
            torch.zeros(len(y), dtype=torch.float64, device=y.device),
            None,
        )
        for i, sigma in enumerate(sigmas):
            last = i + 1 == len(sigmas)
            with torch.no_grad():
                x0hat = self.ode.solve(prior, x_t, sigma)
                target = self.conditional.target(prior, operator, y, x_t, x0hat, sigma, i, len(sigmas))
                evidence = _Predicted(target).log_density()
                log_weight = log_weight + (evidence if expected is None else evidence - expected)
                u = streams.uniform((), torch.float64)
                chosen, log_weight = resampled(
                    log_weight.masked_fill(failed, -torch.inf), systems, u, last=last
                )
                if not torch.equal(chosen, torch.arange(len(y), device=y.device)):
                    x_t, x0hat, failed = x_t[chosen], x0hat[chosen], failed[chosen]
                blind = not_finite(x0hat)
                x0hat = replaced(blind, x0hat, torch.zeros_like(x0hat))
                target = self.conditional.target(prior, operator, y, x_t, x0hat, sigma, i, len(sigmas))
                x0y, info = self.kernel.run(target, x0hat, streams)
                diverged = lost(x0y, info)
                x0y = replaced(diverged, x0y, x0hat)
                step = run.log.step(
                    sigma,
                    x_t,
                    x0hat,
                    x0y,
                    x0y,
                    info,
                    failed=failed,
                    blind=blind,
                    diverged=diverged,
                    last=last,
                )
            yield step
            failed = step.failed
            if last or bool(failed.all()):
                return
            following = states.following(x_t, x0y, i)
            k, b = states.step(i)
            z, variance = (following - k * x_t) / (1 - k), (b / (1 - k)) ** 2
            expected = _Predicted(target).given(z, variance).log_density()
            x_t = following


class _Predicted:
    """p(y) where x0 ~ N(centre, C), as a Gaussian of a few numbers, in double precision.

    Attributes:
        misfit: y - A centre, [B, m].
        columns: C A^T, m tensors [B, ...].
    """

    def __init__(self, target: Target) -> None:
        operator = target.operator
        assert isinstance(operator, LinearOperator)
        self.target, self.operator = target, operator
        weight = operator.noise.curvature(target.y, target.y)
        y = target.y.double()
        self.noise = (target.likelihood_variance / weight + torch.zeros_like(y)).flatten(1)
        self.misfit = (y - operator.forward(target.centre.double())).flatten(1)
        units = torch.eye(self.misfit.shape[1], dtype=torch.float64, device=y.device).reshape(
            -1, 1, *y.shape[1:]
        )
        self.columns = [
            target.covariance.multiply(operator.adjoint(unit.expand(len(y), *y.shape[1:]))) for unit in units
        ]

    def given(self, z: Tensor, variance: float) -> _Predicted:
        """Return p(y) where z = x0 + n, n ~ N(0, variance I), is known, too."""
        multiply = self.target.covariance.multiply

        def correction(b: Tensor) -> Tensor:
            """Return C (C + variance I)^{-1} b."""
            solution, _ = conjugate_gradients(
                lambda v: multiply(v) + variance * v, b, tolerance=SOLVED, max_steps=b[0].numel() + 100
            )
            return multiply(solution)

        known = object.__new__(_Predicted)
        known.target, known.operator, known.noise = self.target, self.operator, self.noise
        change = correction(z.double() - self.target.centre.double())
        known.misfit = self.misfit - self.operator.forward(change).flatten(1)
        known.columns = [column - correction(column) for column in self.columns]
        return known

    def log_density(self) -> Tensor:
        """Return log p(y) up to a constant, [B]; NaN where something is not finite."""
        images = torch.stack([self.operator.forward(column).flatten(1) for column in self.columns], 2)
        matrix = (images + images.mT) / 2 + torch.diag_embed(self.noise)
        root, wrong = torch.linalg.cholesky_ex(matrix.nan_to_num())
        white = torch.linalg.solve_triangular(root, self.misfit[..., None], upper=False)[..., 0]
        found: Tensor = -white.square().sum(1) / 2 - root.diagonal(dim1=1, dim2=2).log().sum(1)
        return torch.where(wrong == 0, found, torch.nan)


def resampled(log_weight: Tensor, systems: list[Tensor], u: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
    """Return which particle takes the place of each, [B], and the log weights that follow, [B].

    Args:
        log_weight: [B]; what is NaN has no weight.
        systems: the places of the particles of each system.
        u: uniform numbers, [B]; that of the first particle of a system serves it.
        last: whether weights have to become equal.
    """
    chosen = torch.arange(len(log_weight), device=log_weight.device)
    log_weight = log_weight.nan_to_num(nan=-torch.inf, posinf=-torch.inf).clone()
    for places in systems:
        share = log_weight[places].softmax(0)
        count = len(places)
        if not bool(torch.isfinite(share).all()) or (not last and 1 / share.square().sum() >= ESS * count):
            continue
        at = (torch.arange(count, device=share.device) + u[places[0]]) / count
        drawn = torch.searchsorted(share.cumsum(0), at).clamp_max(count - 1)
        copies = torch.bincount(drawn, minlength=count)
        inside = torch.arange(count, device=share.device)
        inside[copies == 0] = torch.repeat_interleave(inside, (copies - 1).clamp_min(0))
        chosen[places] = places[inside]
        log_weight[places] = 0
    return chosen, log_weight


def _systems(y: Tensor) -> list[Tensor]:
    """Return the places of samples with equal measurements."""
    places: dict[bytes, list[int]] = {}
    for place, row in enumerate(y.cpu()):
        places.setdefault(row.numpy().tobytes(), []).append(place)
    return [torch.tensor(group, device=y.device) for group in places.values()]
