"""Are the posteriors of unknown numbers right? Ranks in posteriors that are known by quadrature.

    python -m benchmarks unknowns identity|box|down_sampling|blur|... [--problems 300] [--budget 9] [--seed 0]
    python -m benchmarks unknowns laplace|student [--problems 100] [--samples 9] [...]

The prior is a Gaussian over 8 x 8 pixels (of three colours, of `channels`) with variances from 0.02 to 0.2 in a random
basis; of `stationary_blur` it is one over 24 x 24 pixels, too many for matrices, with variances that fall with the
frequency. A problem draws one number to three from their priors (see `PROBLEMS`; the noise's sigma from 0.02 to 1, or
numbers of an operator with noise of 0.05), an image and a measurement; the last value of one sample of `daps` is looked
up in the exact posterior of each number, on a grid of 400 values, 48 x 48, or 48 x 48 x 48. These
ranks are uniform where the sampler is right.

Of noise with heavy tails the posterior is not known; there the ranks are those of the true number among samples of
`daps`, a share of a rank, drawn at random, added.

Source: Talts, Betancourt, Simpson, Vehtari and Gelman, "Validating Bayesian inference algorithms with simulation-based
calibration", arXiv 1804.06788.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import scipy.stats
import torch
from torch import Tensor

from daps_kit import build
from daps_kit.contracts import Operator, Parameters, RandomStreams
from daps_kit.covariance import CosineCovariance
from daps_kit.runs.draw import draw
from daps_priors.exact.gaussian import GaussianPrior

SHAPE, COLOURS, WIDE = (1, 8, 8), (3, 8, 8), (1, 24, 24)
GRID = {1: 400, 2: 48, 3: 48}
"""Values of each of so many numbers."""
SIGMA = {"unknown": {"use": "log_uniform", "low": 0.02, "high": 1.0}}
NOISE = {"noise": {"use": "gaussian", "sigma": SIGMA}}
KNOWN = {"noise": {"use": "gaussian", "sigma": 0.05}}
BLUR = {"use": "gaussian_blur", "kernel_size": 9, "intensity": {"unknown": [0.3, 1.5]}}
PROBLEMS: dict[str, dict[str, Any]] = {
    "identity": {"use": "identity", **NOISE},
    "channels": {"use": "gaussian_blur", "kernel_size": 5, "intensity": 0.5,
                 "noise": {"use": "gaussian", "sigma": [SIGMA] * 3}},
    "box": {"use": "inpainting", **NOISE},
    "down_sampling": {"use": "down_sampling", "scale_factor": 2, **NOISE},
    "blur": {**BLUR, **KNOWN},
    "stationary_blur": {**BLUR, **KNOWN},
    "motion": {"use": "linear_motion_blur", "length": {"unknown": [1, 6]}, "angle": "unknown", **KNOWN},
    "defocus": {"use": "defocus_blur", "radius": {"unknown": [0.3, 3]}, **KNOWN},
    "shift": {"use": "shift", "x": {"unknown": [-2, 2]}, "y": {"unknown": [-2, 2]}, **KNOWN},
    "affine": {"use": "affine", "scale": {"unknown": [0.5, 2]}, "offset": {"unknown": [-0.5, 0.5]}, **KNOWN},
    "laplace": {"use": "identity", "noise": {"use": "laplace", "scale": SIGMA}},
    "student": {"use": "identity", "noise": {"use": "student_t", "scale": SIGMA}},
    "rotation": {"use": "rotation", "angle": {"unknown": [0, 360]}, **KNOWN},
    "phase": {
        "use": "down_sampling", "scale_factor": 2, "phase_x": {"unknown": [-1, 1]},
        "phase_y": {"unknown": [-1, 1]}, **KNOWN,
    },
    "chain": {
        "use": "chain", **KNOWN,
        "operators": [BLUR, {"use": "affine", "scale": {"unknown": [0.5, 2]}}],
    },
}  # fmt: skip

BY_SAMPLES = ("laplace", "student")
"""Problems whose posteriors are not known."""


class Count:
    """A function that counts how often it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *given: Any) -> Any:
        """Call it."""
        self.calls += 1
        return self.function(*given)


def gaussian(shape: tuple[int, ...] = SHAPE) -> GaussianPrior:
    """Return the prior."""
    generator, size = torch.Generator().manual_seed(1), math.prod(shape)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    variances = torch.logspace(-1.7, -0.7, size, dtype=torch.float64)
    mean = 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return GaussianPrior(mean, covariance=basis * variances @ basis.T)


class Stationary(GaussianPrior):
    """A Gaussian with mean 0 whose covariance is diagonal in the cosine basis, and said to be."""

    def __init__(self) -> None:
        down, across = (torch.arange(float(side), dtype=torch.float64) for side in WIDE[1:])
        self.power = 0.4 / (4 + down[:, None].square() + across.square())[None]
        size = self.power.numel()
        basis = torch.eye(size, dtype=torch.float64).reshape(size, *WIDE)
        root = self._with(self.power).sqrt(basis).flatten(1)
        super().__init__(torch.zeros(WIDE, dtype=torch.float64), covariance=root @ root.T)

    def denoising_covariance(self, sigma: float) -> CosineCovariance:
        """Return Cov[x0 | x_t]."""
        return self._with(self.power * sigma**2 / (self.power + sigma**2))

    def _with(self, power: Tensor) -> CosineCovariance:
        return CosineCovariance(power, torch.eye(1, dtype=torch.float64))


def posteriors(prior: GaussianPrior, parameters: Parameters, y: Tensor) -> list[Tensor]:
    """Return the exact distribution function of each number at the ends of the grid's cells, [B, cells + 1]."""
    count = len(parameters.names)
    cells = GRID[count]
    places = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    u = torch.cartesian_prod(*[places] * count).reshape(-1, count)
    root = _root(prior)
    logs = [_log(operator, root, prior, y) for operator in parameters.operators(parameters.values(u))]
    joint = torch.stack(logs, 1).softmax(1).reshape(len(y), *[cells] * count)
    found = []
    for axis in range(count):
        own = joint.sum([k + 1 for k in range(count) if k != axis]) if count > 1 else joint
        found.append(torch.nn.functional.pad(own.cumsum(1), (1, 0)))
    return found


def of_channels(prior: GaussianPrior, parameters: Parameters, y: Tensor) -> list[Tensor]:
    """Return the same of the sigma of three channels: that of all in the last at once, for each pair of the others."""
    cells = GRID[3]
    u = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    first, second, third = parameters.values(u[:, None].expand(-1, 3)).square().T
    operator = parameters.operators(parameters.values(u[:1, None].expand(-1, 3)))[0]
    images = operator.forward(_root(prior)).flatten(1)
    m, r = images.T @ images, (y.double() - operator.forward(prior.mean[None])).flatten(1).T
    n, joint, last = (
        len(m) // 3,
        torch.empty(len(y), cells, cells, dtype=torch.float64),
        torch.tensor(-math.inf),
    )
    for i, j in product(range(cells), repeat=2):
        noise = torch.stack([first[i], second[j]]).repeat_interleave(n)
        factor = torch.linalg.cholesky(m[: 2 * n, : 2 * n] + torch.diag(noise))
        half = torch.linalg.solve_triangular(
            factor, torch.cat([m[: 2 * n, 2 * n :], r[: 2 * n]], 1), upper=False
        )
        cross, z = half[:, :n], half[:, n:]
        values, vectors = torch.linalg.eigh(m[2 * n :, 2 * n :] - cross.T @ cross)
        energy = (vectors.T @ (r[2 * n :] - cross.T @ z)).square()
        total = values[:, None] + third
        log = -0.5 * (energy.T @ total.reciprocal() + total.log().sum(0))
        log = log - 0.5 * z.square().sum(0)[:, None] - factor.diagonal().log().sum()
        joint[:, i, j] = log.logsumexp(1)
        last = torch.logaddexp(last, log)
    logs = [joint.logsumexp(2), joint.logsumexp(1), last]
    return [torch.nn.functional.pad(each.softmax(1).cumsum(1), (1, 0)) for each in logs]


def _among(names: tuple[str, ...], truth: Tensor, found: Tensor) -> None:
    """Print how uniform the ranks of true numbers [B, P] among samples [B, K, P] are, and how they compare."""
    draw = torch.Generator().manual_seed(0)
    for place, name in enumerate(names):
        below = (found[:, :, place] < truth[:, None, place]).sum(1)
        share = torch.rand(len(truth), generator=draw, dtype=torch.float64)
        _tell(name, (below + share) / (found.shape[1] + 1))
        ratio = (found[:, :, place].log().mean(1) - truth[:, place].log()).mean().exp()
        print(f"{name}: samples over the true one, geometric mean {float(ratio):.3f}")


def _tell(what: str, rank: Tensor) -> None:
    inside = float(((rank > 0.05) & (rank < 0.95)).double().mean())
    p = scipy.stats.kstest(rank.numpy(), "uniform").pvalue
    print(
        f"{what}: mean rank {float(rank.mean()):.3f}, in the interval of 90 % {inside:.3f}, "
        f"Kolmogorov-Smirnov p = {p:.3f}"
    )


def _root(prior: GaussianPrior) -> Tensor:
    """Return the columns of a root of the covariance, as images."""
    vectors, variances = prior.covariance.vectors, prior.covariance.variances
    assert vectors is not None
    return (vectors * variances.sqrt()).T.reshape(-1, *prior.mean.shape)


def ranks(known: Tensor, u: Tensor) -> Tensor:
    """Return a distribution function, known at the ends of cells of [0, 1], at u [B], linear between them."""
    cells = known.shape[1] - 1
    place = (u * cells).long().clamp(0, cells - 1)
    low, high = (known.gather(1, place[:, None] + step)[:, 0] for step in (0, 1))
    return low + (high - low) * (u * cells - place)


def _log(operator: Operator, root: Tensor, prior: GaussianPrior, y: Tensor) -> Tensor:
    """Return log p(y), the image left out, up to a constant, [B]."""
    seen = operator.project(torch.ones(1, *y.shape[1:])).flatten() > 0
    nothing = operator.forward(torch.zeros_like(prior.mean)[None])
    images = (operator.forward(root) - nothing).flatten(1)[:, seen]
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
    parser.add_argument("--samples", type=int, default=9, help="among which a true number is ranked")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    colours = options.problem == "channels"
    prior = Stationary() if options.problem == "stationary_blur" else gaussian(COLOURS if colours else SHAPE)
    shape, count = tuple(prior.mean.shape), options.problems
    operator = build("operator", PROBLEMS[options.problem], shape=shape)
    parameters = operator.parameters
    assert parameters is not None
    first = 4 * count * options.seed
    seeds = [range(first + k * count, first + (k + 1) * count) for k in range(4)]
    streams = [RandomStreams(each) for each in seeds[:2]]
    truth = parameters.truths(streams[0])
    rows = zip(parameters.operators(truth), prior.sample(shape, streams[1]).split(1), seeds[2], strict=True)
    y = torch.cat([each.measure(x, RandomStreams([seed])) for each, x, seed in rows])
    by_samples = options.problem in BY_SAMPLES
    if by_samples:
        y = y.repeat_interleave(options.samples, 0)
        seeds[3] = range(first + 3 * count, first + (3 + options.samples) * count)
    known = [] if by_samples else (of_channels if colours else posteriors)(prior, parameters, y)
    built = Count(parameters.builds[0])
    operator.parameters = replace(parameters, builds=(built,))
    begun, seen = time.process_time(), list[Tensor]()
    sampler = build("sampler", {"use": "daps", "budget": options.budget})
    draw(
        sampler, prior, operator, y, seeds[3],
        lambda step: seen.append(step.parameters) if step.parameters is not None else None,
    )  # fmt: skip
    seconds = time.process_time() - begun
    if by_samples:
        _among(parameters.names, truth, seen[-1].reshape(count, options.samples, -1))
        print(f"{seconds:.0f} s of the processor")
        return 0
    for (place, number), (what, values) in product(
        enumerate(parameters.names), (("truth", truth), ("sample", seen[-1]))
    ):
        cdf = parameters.priors[place].cdf
        u = torch.tensor([cdf(value) for value in values[:, place].tolist()], dtype=torch.float64)
        _tell(f"{number}, {what}", ranks(known[place], u))
    levels = len(seen)
    print(f"{seconds:.0f} s of the processor, {built.calls / count / levels:.0f} operators a level")
    return 0
