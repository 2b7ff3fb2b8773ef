"""Are the posteriors of unknown numbers right? Ranks in posteriors that are known by quadrature.

    python -m benchmarks unknowns identity|box|down_sampling|blur [--problems 300] [--budget 9] [--seed 0]

The prior is a Gaussian over 8 x 8 pixels with variances from 0.02 to 0.2 in a random basis. A problem draws the number
from its prior (the noise's sigma from 0.02 to 1, or the width of a Gaussian blur from 0.3 to 1.5 with noise of 0.05),
an image and a measurement; the last value of one sample of `daps` is looked up in the exact posterior, on a grid of 400
values. These ranks are uniform where the sampler is right.
"""

from __future__ import annotations

import argparse
import time

import scipy.stats
import torch
from torch import Tensor

from daps_kit import build
from daps_kit.contracts import Operator, Parameters, RandomStreams
from daps_kit.runs.draw import draw
from daps_priors.exact.gaussian import GaussianPrior

SHAPE, SIZE, GRID = (1, 8, 8), 64, 400
NOISE = {"noise": {"use": "gaussian", "sigma": {"unknown": {"use": "log_uniform", "low": 0.02, "high": 1.0}}}}
PROBLEMS = {
    "identity": {"use": "identity", **NOISE},
    "box": {"use": "inpainting", **NOISE},
    "down_sampling": {"use": "down_sampling", "scale_factor": 2, **NOISE},
    "blur": {
        "use": "gaussian_blur", "kernel_size": 9, "intensity": {"unknown": [0.3, 1.5]},
        "noise": {"use": "gaussian", "sigma": 0.05},
    },
}  # fmt: skip


def gaussian() -> GaussianPrior:
    """Return the prior."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    variances = torch.logspace(-1.7, -0.7, SIZE, dtype=torch.float64)
    mean = 0.3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return GaussianPrior(mean, covariance=basis * variances @ basis.T)


def posteriors(prior: GaussianPrior, parameters: Parameters, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of the grid's cells, and the exact distribution functions there, [B, GRID]."""
    u = (torch.arange(GRID, dtype=torch.float64)[:, None] + 0.5) / GRID
    vectors, variances = prior.covariance.vectors, prior.covariance.variances
    assert vectors is not None
    root = (vectors * variances.sqrt()).T.reshape(SIZE, *SHAPE)
    logs = [_log(operator, root, prior, y) for operator in parameters.operators(parameters.values(u))]
    ends = parameters.values((torch.arange(GRID, dtype=torch.float64)[:, None] + 1) / GRID)[:, 0]
    return ends, torch.stack(logs, 1).softmax(1).cumsum(1)


def _log(operator: Operator, root: Tensor, prior: GaussianPrior, y: Tensor) -> Tensor:
    """Return log p(y), the image left out, up to a constant, [B]."""
    seen = operator.project(torch.ones(1, *y.shape[1:])).flatten() > 0
    images = operator.forward(root).flatten(1)[:, seen]
    covariance = images.T @ images + operator.noise.dispersion * torch.eye(
        int(seen.sum()), dtype=torch.float64
    )
    factor = torch.linalg.cholesky(covariance)
    r = (y.double() - operator.forward(prior.mean[None])).flatten(1)[:, seen]
    z = torch.linalg.solve_triangular(factor, r.T, upper=False)
    return -0.5 * z.square().sum(0) - factor.diagonal().log().sum()


def main(arguments: list[str]) -> int:
    """Print how uniform the ranks are."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks unknowns",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--budget", type=int, default=9, help="noise levels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    prior, count = gaussian(), options.problems
    operator = build("operator", PROBLEMS[options.problem], shape=SHAPE)
    parameters = operator.parameters
    assert parameters is not None
    first = 3 * count * options.seed
    streams = [RandomStreams(range(first + k * count, first + (k + 1) * count)) for k in range(3)]
    truth = parameters.truths(streams[0])
    y = parameters.at(truth).measure(prior.sample(SHAPE, streams[1]), streams[2])
    ends, known = posteriors(prior, parameters, y)
    begun, seen = time.process_time(), list[Tensor]()
    sampler = build("sampler", {"use": "daps", "budget": options.budget})
    draw(
        sampler, prior, operator, y, range(first, first + count),
        lambda step: seen.append(step.parameters) if step.parameters is not None else None,
    )  # fmt: skip
    seconds = time.process_time() - begun
    for name, values in (("truth", truth), ("sample", seen[-1])):
        place = torch.searchsorted(ends, values[:, 0].contiguous()).clamp_max(GRID - 1)
        upper = known.gather(1, place[:, None])[:, 0]
        lower = torch.where(place > 0, known.gather(1, (place - 1).clamp_min(0)[:, None])[:, 0], 0.0)
        rank = (upper + lower) / 2
        inside = float(((rank > 0.05) & (rank < 0.95)).double().mean())
        p = scipy.stats.kstest(rank.numpy(), "uniform").pvalue
        print(
            f"{name}: mean rank {float(rank.mean()):.3f}, in the interval of 90 % {inside:.3f}, "
            f"Kolmogorov-Smirnov p = {p:.3f}"
        )
    print(f"{seconds:.0f} s of the processor")
    return 0
