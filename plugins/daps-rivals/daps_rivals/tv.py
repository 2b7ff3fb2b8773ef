r"""Total variation: the classical estimate that has no network, by the primal-dual method.

    x = argmin ||A x - y||^2 / (2 sigma_y^2) + lambda sum_pixels |grad x|,

|grad x| the length of the differences to the right and below, over all channels at once. With D the differences and
K = lambda D, ||D||^2 <= 8,

    p = P(p + s K (2 x - x_old)),     P onto |p| <= 1 at each pixel
    x = argmin ||A x - y||^2 / (2 sigma_y^2) + ||x - (x - s K^T p)||^2 / (2 s),     s = 1 / (lambda sqrt 8)

It asks the prior for nothing and returns one estimate.

Sources: Rudin, Osher and Fatemi, Physica D 60, 1992; Chambolle and Pock, "A first-order primal-dual algorithm for
convex problems with applications to imaging", JMIV 40, 2011, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .rival import Level, Problem, Rival

__all__ = ["TotalVariation", "differences", "differences_adjoint"]


class TotalVariation(Rival):
    """Least total variation.

    Args:
        steps: of the method; none is a network call.
        weight: lambda.
    """

    name = "tv"
    needs_linear = needs_gaussian = True
    approximate = "it returns one estimate"
    deterministic = True

    def __init__(self, steps: int, weight: float) -> None:
        self.steps, self.weight = steps, weight

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield one level, the last iterate."""
        operator, variance = problem.linear, problem.variance
        seen = operator.adjoint(operator.project(problem.y))
        step = 1 / (self.weight * math.sqrt(8))
        x = leading = operator.solve_normal(seen, variance)
        p = differences(torch.zeros_like(x))
        for _ in range(self.steps):
            p = p + step * self.weight * differences(leading)
            p = p / p.square().sum((0, 2), keepdim=True).sqrt().clamp_min(1)
            before = x
            ahead = x - step * self.weight * differences_adjoint(p)
            x = operator.solve_normal(seen + variance / step * ahead, variance / step)
            leading = 2 * x - before
        yield Level(0, 1, 0.0, x, x, x)


def differences(x: Tensor) -> Tensor:
    """Return the differences to the right and below, zero at the border, [2, B, C, H, W]."""
    right = torch.cat([x[..., :, 1:] - x[..., :, :-1], torch.zeros_like(x[..., :, :1])], -1)
    below = torch.cat([x[..., 1:, :] - x[..., :-1, :], torch.zeros_like(x[..., :1, :])], -2)
    return torch.stack([right, below])


def differences_adjoint(p: Tensor) -> Tensor:
    """Return D^T p, [B, C, H, W]; what p says of differences over the border is not read."""
    right, below = p[0], p[1]
    x = torch.zeros_like(right)
    x[..., :, :-1] -= right[..., :, :-1]
    x[..., :, 1:] += right[..., :, :-1]
    x[..., :-1, :] -= below[..., :-1, :]
    x[..., 1:, :] += below[..., :-1, :]
    return x
