r"""Score-KSD: how far samples are from a posterior, by its score alone, with no true image.

A kernel Stein discrepancy compares samples x_1 .. x_N of q with a density p of score s = grad log p:

    KSD^2    = E u(x, x'),    x and x' independent draws of q;    0 where q = p, else positive
    u(x, x') = s^T s' k + s^T grad_x' k + s'^T grad_x k + tr(grad_x grad_x' k)

With the inverse multiquadric k = h^{-1/2}, h = 1 + |x - x'|^2 / l^2, and d elements of x, in closed form

    u = s^T s' h^{-1/2} + ((s - s')^T (x - x') + d) / l^2 h^{-3/2} - 3 |x - x'|^2 / l^4 h^{-5/2}

l^2 is the median of the |x_i - x_j|^2. The mean of u over pairs i != j, a U-statistic, has the expectation KSD^2 where
l is fixed, so that of right samples it is below 0 about as often as above. What is chance is measured by

    z = mean of u / (2 / (N (N - 1)) mean of u^2)^{1/2}    over pairs i != j,

which has no unit, and of right samples mean 0 and standard deviation about 1. In many dimensions KSD^2 hardly depends
on how far samples spread, which Stein's identity for the function x - E x tells from the same scores,

    spread = -mean of (s - s')^T (x - x') / (2 d)    over pairs i != j,    1 on average for right samples,

which for a Gaussian p is the variance of the samples over that of p, averaged over the directions.

The score is that of p(x_s | y), x_s = x0 + sigma n, since a denoiser knows the prior at noise levels above 0 alone. So
the samples are first given such noise, after which the right ones follow this density. By Tweedie's formula

    grad log p(x_s | y) = (E[x0 | x_s, y] - x_s) / sigma^2

without error. Let p(x0 | x_s) be N(D, C), as it is for small sigma, J the derivative of A at D, and g and W slope and
curvature of -log p(y | x0) by A(x0) there. Then

    E[x0 | x_s, y] = D - C J^T (J C J^T + W^{-1})^{-1} W^{-1} g,

exactly for a linear A with Gaussian noise, where W^{-1} g = A D - y, and by a step of Gauss and Newton else. The plain
sum of grad log p(x_s) and of grad log p(y | x0) at x0 = x_s is its limit where sigma |J| is far below the noise of y
and the prior much wider than sigma. Elsewhere it is not the score: noise in x0 is noise in y, too.

Sources: Qiu, Yang, Liu, Wang and Shen, "Beyond accuracy: evaluating posterior fidelity of diffusion inverse solvers",
arXiv 2602.04189, for a KSD with the score of forward model and diffusion prior; Liu, Lee and Jordan, "A kernelized
Stein discrepancy for goodness-of-fit tests", ICML 2016, for u and the U-statistic; Gorham and Mackey, "Measuring sample
quality with kernels", ICML 2017, for the kernel. The noise given to samples, its likelihood and z are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Prior, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.linalg import solve
from daps_kit.random import stream_seed

__all__ = ["ScoreKSD", "noise_level", "posterior_score", "score_ksd", "stein_discrepancy", "stein_kernel"]

SHARE = 0.4
"""The noise given to samples, in parts of that of the measurement: so far down a sampler goes, too."""


class ScoreKSD(NamedTuple):
    """A kernel Stein discrepancy.

    Attributes:
        squared: KSD^2, a U-statistic, in units of a squared score; 0 on average for right samples, and then often
            negative. It is comparable for one measurement and one noise level only.
        z: the same in standard deviations of what chance makes of right samples.
        spread: the variance of the samples in parts of that of the density, 1 on average for right samples; by chance
            off by (2 / (N d))^{1/2} of Gaussian samples with d elements.
    """

    squared: Tensor
    z: Tensor
    spread: Tensor


def stein_kernel(x: Tensor, score: Tensor) -> Tensor:
    """Return u(x_i, x_j) for the inverse multiquadric, [N, N], in double precision.

    Args:
        x: samples, [N, ...], N > 1, most of them different.
        score: at x, of the density that they are held against, [N, ...].
    """
    x, s = x.flatten(1).double(), score.flatten(1).double()
    square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    width = square[~torch.eye(len(x), dtype=torch.bool, device=x.device)].median()
    h = 1 + square / width
    cross = s @ x.T
    own = cross.diagonal()
    along = own[:, None] + own - cross - cross.T  # (s - s')^T (x - x')
    return s @ s.T * h**-0.5 + (along + x.shape[1]) / width * h**-1.5 - 3 * square / width**2 * h**-2.5


def stein_discrepancy(x: Tensor, score: Tensor) -> ScoreKSD:
    """Return the discrepancy of samples from the density whose score at them is given, as numbers (0-d tensors).

    Args:
        x, score: as in `stein_kernel`.
    """
    u, pairs = stein_kernel(x, score).fill_diagonal_(0), len(x) * (len(x) - 1)
    off = (x - x.mean(0)).flatten(1).double()
    spread = -(score.flatten(1) * off).sum() / ((len(x) - 1) * off.shape[1])
    return ScoreKSD(u.sum() / pairs, u.sum() / (2 * u.square().sum()).sqrt(), spread)


@torch.no_grad()
def posterior_score(prior: Prior, operator: Operator, y: Tensor, x: Tensor, sigma: float) -> Tensor:
    """Return grad log p(x_s | y) at noisy images, [N, C, H, W]; one network call each.

    Where the prior does not know Cov[x0 | x_s], its upper bound for a wide prior, sigma^2 I, is taken.

    Args:
        prior: over pixels.
        operator: whose measurement y is.
        y: of one image, [...], without the batch.
        x: x_s, [N, C, H, W].
        sigma: noise level of x_s.

    Raises:
        ArithmeticError: conjugate gradients for the likelihood do not converge.
    """
    denoised = prior.denoise(x, sigma)
    covariance = prior.covariance_around(x, denoised, sigma) or Isotropic(sigma**2)
    many, noise = y.expand(len(x), *y.shape), operator.noise
    clean, vjp = operator.forward_vjp(denoised)
    weight = noise.curvature(clean, many)
    variance = noise.dispersion / weight

    def apply(z: Tensor) -> Tensor:
        return operator.project(operator.jvp(denoised, covariance.multiply(vjp(z)))) + variance * z

    misfit = operator.project(-noise.misfit_grad(clean, many) / (2 * weight))
    return (denoised + covariance.multiply(vjp(solve(apply, misfit))) - x) / sigma**2


def noise_level(prior: Prior, operator: Operator, y: Tensor) -> float:
    """Return at which noise level samples of p(x0 | y) are judged: 0.4 of that of y, where the prior knows it.

    Args:
        prior, operator: of the posterior.
        y: of one image, [...].
    """
    low, high = prior.sigma_range
    return min(max(SHARE * operator.noise.level(y[None]) / operator.scale, low), high)


def score_ksd(
    prior: Prior,
    operator: Operator,
    y: Tensor,
    samples: Tensor,
    sigma: float | None = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> ScoreKSD:
    """Return how far the samples of one image are from p(x0 | y), as numbers (0-d tensors).

    Args:
        prior, operator, y: as in `posterior_score`.
        samples: [N, C, H, W] in [-1, 1], N > 1.
        sigma: the noise that they are given; that of `noise_level` by default.
        seed: of this noise; that of sample i depends on seed and i alone.
        batch_size: samples that the prior takes at once, all by default.
    """
    sigma = noise_level(prior, operator, y) if sigma is None else sigma
    streams = RandomStreams(
        [stream_seed(seed, "score_ksd", run) for run in range(len(samples))], samples.device
    )
    x = samples + sigma * streams.normal(samples.shape[1:], samples.dtype)
    parts = torch.split(x, batch_size or len(x))
    return stein_discrepancy(
        x, torch.cat([posterior_score(prior, operator, y, part, sigma) for part in parts])
    )
