r"""Where truths rank among samples, and how often regions of the samples hold them.

Truths x* ~ p(x), measurements y ~ p(y | x*) and samples x_1 .. x_R ~ p(x | y): if the samples are right, x* and the x_i
are exchangeable given y. So for any function q the rank of q(x*) among the q(x_i), the number of those below it, is
each of 0 .. R equally often (simulation-based calibration). What is ranked:

    pixels         every number of the image
    blocks         means over blocks of 8 x 8 pixels, of each channel
    projections    the products with DIRECTIONS random directions (white noise, the same for all images)
    fit            how well an image explains y, its residual: samples that make too little of y, such as draws of the
                   prior, pass the others

The interval from the k-th smallest sample to the k-th largest holds (R + 1 - 2 k) / (R + 1) of the truths. TARP asks it
of all numbers of an image together: which share f of the samples is nearer to a reference point than the truth is? f R
is each of 0 .. R equally often, too; the references are the other truths, which do not depend on x* or its samples.

Numbers of an image depend on each other, images do not: a standard error is that of the mean over images.

Sources: Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration", arXiv 1804.06788;
Lemos et al., "Sampling-based accuracy testing of posterior estimators for general inference" (TARP), arXiv 2302.03026.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daps_kit.random import RandomStreams

__all__ = [
    "DIRECTIONS",
    "Coverage",
    "coverage",
    "quantities",
    "rank_shares",
    "ranks",
    "spread_skill",
    "tarp_ranks",
    "widening",
]

BLOCK = 8
DIRECTIONS = 64
BINS = 8
"""How many groups of pixels, from the surest to the least sure, show spread against error."""


def quantities(x: Tensor) -> dict[str, Tensor]:
    """Return what is ranked of images [B, C, H, W], each [B, n]; blocks are missing of images smaller than one."""
    size = math.prod(x.shape[1:])
    directions = RandomStreams([0]).normal((DIRECTIONS, size), x.dtype)[0].to(x.device) / math.sqrt(size)
    found = {"pixels": x.flatten(1)}
    if min(x.shape[-2:]) >= BLOCK:
        found["blocks"] = F.avg_pool2d(x, BLOCK).flatten(1)
    return found | {"projections": x.flatten(1) @ directions.T}


def ranks(samples: Tensor, truth: Tensor) -> Tensor:
    """Return how many of the samples [R, n] are below the truth [n], [n] of 0 .. R."""
    return (samples < truth).sum(0)


def rank_shares(found: Tensor, runs: int) -> Tensor:
    """Return how often each of the ranks 0 .. runs occurs, [runs + 1]; they sum to 1."""
    counts = torch.bincount(found.flatten(), minlength=runs + 1).double()
    return counts / counts.sum()


def tarp_ranks(samples: Tensor, truth: Tensor, references: Tensor) -> Tensor:
    """Return how many of the samples are nearer to each reference than the truth is, [m] of 0 .. R.

    Args:
        samples, truth: [R, C, H, W] and [C, H, W].
        references: [m, C, H, W], chosen without them.
    """
    to_samples = torch.cdist(references.flatten(1), samples.flatten(1))
    to_truth = (references - truth).flatten(1).norm(dim=1)
    nearer: Tensor = (to_samples < to_truth[:, None]).sum(1)
    return nearer


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of a kind of quantity hold the truth.

    Attributes:
        shares: how often each rank 0 .. R occurs, mean over images, [R + 1].
        errors: their standard errors.
        covered: for k = 1 .. (R + 1) / 2 the share of truths between the k-th smallest and the k-th largest sample.
        covered_errors: their standard errors.
        due: what they are for right samples.
    """

    shares: list[float]
    errors: list[float]
    covered: list[float]
    covered_errors: list[float]
    due: list[float]

    def deviation(self, k: int) -> float:
        """Return by how many standard errors the coverage of the k-th interval, from 1, differs from what is due."""
        return (self.covered[k - 1] - self.due[k - 1]) / self.covered_errors[k - 1]


def coverage(shares: Sequence[Tensor], count: int) -> Coverage:
    """Join what was found of two images or more.

    Args:
        shares: of each image, how often each rank occurs, [R + 1].
        count: how many quantities were ranked, in all images.
    """
    table = torch.stack(list(shares))
    images, bins = table.shape
    inside = torch.stack([table[:, k : bins - k].sum(1) for k in range(1, bins // 2 + bins % 2)], 1)
    due = [(bins - 2 * k) / bins for k in range(1, inside.shape[1] + 1)]

    def error(values: Tensor, expected: Tensor) -> list[float]:
        # No smaller than that of independent quantities: a few images may agree by chance.
        least = (expected * (1 - expected)).clamp_min(0) / count
        found: list[float] = torch.maximum(values.var(0) / images, least).clamp_min(1e-12).sqrt().tolist()
        return found

    return Coverage(
        table.mean(0).tolist(),
        error(table, torch.full((bins,), 1 / bins, dtype=table.dtype)),
        inside.mean(0).tolist(),
        error(inside, torch.tensor(due, dtype=table.dtype)),
        due,
    )


def widening(samples: Sequence[Tensor], truths: Sequence[Tensor], k: int) -> float:
    """Return by which factor the k-th intervals of pixels are to be widened about the mean to hold what is due.

    A truth t above the mean m is held by m + f (high - m) for f of (t - m) / (high - m) or more, one below likewise:
    the factor is the quantile of that at what is due.

    Args:
        samples: of each image, [R, ...]; R of the first is what counts for what is due.
        truths: of each image, [...].
        k: the interval is from the k-th smallest sample to the k-th largest.
    """
    needed, count = [], len(samples[0])
    for x, t in zip(samples, truths, strict=True):
        mean = x.mean(0)
        low, high = x.kthvalue(k, 0).values, x.kthvalue(len(x) + 1 - k, 0).values
        end = torch.where(t > mean, high, low)
        needed.append(((t - mean) / (end - mean)).nan_to_num(0.0, torch.inf, torch.inf).flatten())
    values = torch.cat(needed).sort().values
    due = (count + 1 - 2 * k) / (count + 1)
    return float(values[min(len(values) - 1, math.ceil(due * len(values)))])


def spread_skill(samples: Sequence[Tensor], truths: Sequence[Tensor]) -> list[tuple[float, float]]:
    """Return spread and error of groups of pixels, from the surest to the least sure; equal for right samples.

    Args:
        samples: of each image, [R, ...] with R of at least 4. The variance of their first half groups the pixels; the
            others give spread and error. Of the same samples they would differ: a variance is least where chance made
            it too small.
        truths: of each image, [...].
    """
    halves = [(x[: len(x) // 2].flatten(1), x[len(x) // 2 :].flatten(1)) for x in samples]
    order = torch.cat([first.var(0) for first, _ in halves]).argsort()
    variance = torch.cat([second.var(0) * (1 + 1 / len(second)) for _, second in halves])
    pairs = zip(halves, truths, strict=True)
    error = torch.cat([(second.mean(0) - t.flatten()).square() for (_, second), t in pairs])
    groups = [group for group in torch.tensor_split(order, BINS) if len(group)]
    return [(float(variance[group].mean().sqrt()), float(error[group].mean().sqrt())) for group in groups]
