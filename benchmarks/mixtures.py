"""Samplers on posteriors that are known exactly: a mixture of 25 Gaussians seen through a few linear measurements.

    python -m benchmarks mixtures [--problems 20] [--samples 1000]

The problems are those of MCGDiff (Cardoso et al., arXiv 2308.07983): means (8 i, 8 j, 8 i, ...) with i, j = -2 ... 2,
standard deviation 1, random weights; a random measurement of singular values uniform on [0, 1] with noise of a random
share of the largest. Everything is divided by 16, so that the means lie where images do, in [-1, 1]; distances are
told in the original units. The posterior is a mixture, too, and is sampled exactly.

What is told is the sliced Wasserstein distance between samples of the sampler and exact ones, averaged over problems.
*DAPS-1K* and *DAPS-100* are DAPS with the published levels, ODE and spread, and the published likelihood or the true
one, the Langevin chain run to convergence: p(x0 | x_t, y) is a Gaussian then, and is drawn from exactly. The others are
this package's budgets with nothing else set: 9, 21 and 101 network calls, and as the spread Cov[x0 | x_t], which the
mixture knows. The floor is the distance between two sets of exact samples.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.tasks import fill
from daps_kit import build
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.files import write_atomic
from daps_kit.noise import GaussianNoise
from daps_priors.exact.mixture import MixturePrior

DIMENSIONS = (8, 80)
MEASUREMENTS = (1, 2, 4)
SCALE = 16.0
SLICES = 1000
TAU = 0.00707  # what the published step sizes and weights amount to


def published(levels: int, steps: int, **kernel: float) -> dict[str, Any]:
    """Return the settings of DAPS with so many levels and steps of the ODE at each."""
    return {
        "use": "daps",
        "annealing": {
            "use": "edm",
            "levels": levels,
            "sigma_max": 100.0,
            "sigma_min": 0.1,
            "reach_sigma_min": False,
        },
        "ode": {"steps": steps, "sigma_min": 0.01},
        "kernel": {"use": "exact", **kernel},
    }


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "DAPS-100, published likelihood": published(50, 2, tau=TAU),
    "DAPS-1K, published likelihood": published(200, 5, tau=TAU),
    "DAPS-1K, true likelihood": published(200, 5),
    "fast": {"use": "daps", "budget": "fast"},
    "balanced": {"use": "daps", "budget": "balanced"},
    "accurate": {"use": "daps", "budget": "accurate"},
}


class Matrix(LinearOperator):
    """y = A x for images [1, 1, d] and a matrix [m, d]."""

    def __init__(self, matrix: Tensor, sigma: float) -> None:
        super().__init__((1, 1, matrix.shape[1]), GaussianNoise(sigma))
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, [B, m]."""
        return x.flatten(1) @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, [B, 1, 1, d]."""
        return (y @ self.matrix).reshape(-1, *self.shape)


class Problem:
    """A prior, a measurement and its posterior.

    Args:
        dimension: elements of x.
        measurements: elements of y.
        seed: of all that is drawn.
    """

    def __init__(self, dimension: int, measurements: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        steps = torch.arange(-2.0, 3.0, dtype=torch.float64)
        pairs = torch.cartesian_prod(steps, steps) * 8 / SCALE
        means = pairs.repeat(1, dimension // 2)
        share = -torch.rand(len(means), generator=draw, dtype=torch.float64).log()  # uniform on the simplex
        self.prior = MixturePrior(means.reshape(-1, 1, 1, dimension), 1 / SCALE, share)
        noise = torch.randn((measurements, dimension), generator=draw, dtype=torch.float64)
        left, _, right = torch.linalg.svd(noise, full_matrices=False)
        values = torch.rand(measurements, generator=draw, dtype=torch.float64).sort(descending=True).values
        matrix = left @ torch.diag(values) @ right
        sigma = float(values[0] * torch.rand(1, generator=draw, dtype=torch.float64).clamp_min(0.01)) / SCALE
        self.operator = Matrix(matrix, sigma)
        truth = self.prior.sample((1, 1, dimension), RandomStreams([seed]))
        self.y = self.operator.measure(truth.double(), RandomStreams([seed + 1]))
        self._posterior(means, matrix, sigma)

    def _posterior(self, means: Tensor, matrix: Tensor, sigma: float) -> None:
        """Set the weights, means and common covariance of the posterior's components."""
        spread = 1 / SCALE**2
        evidence = spread * matrix @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=torch.float64)
        gain = spread * matrix.T @ torch.linalg.inv(evidence)
        misfit = self.y - means @ matrix.T
        self.means = means + misfit @ gain.T
        eye = torch.eye(means.shape[1], dtype=torch.float64)
        covariance = spread * (eye - gain @ matrix)
        self.root = torch.linalg.cholesky((covariance + covariance.T) / 2 + 1e-14 * eye)
        logs = torch.distributions.MultivariateNormal(torch.zeros(len(matrix)).double(), evidence)
        self.weights = (self.prior.weights.log() + logs.log_prob(misfit)).softmax(0)

    def exact(self, count: int, seed: int) -> Tensor:
        """Return exact samples of the posterior, [count, d]."""
        draw = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=draw)
        normal = torch.randn((count, len(self.root)), generator=draw, dtype=torch.float64)
        return self.means[chosen] + normal @ self.root.T

    def sampled(self, settings: dict[str, Any], count: int, seed: int) -> Tensor:
        """Return samples of a sampler, [count, d]."""
        streams = RandomStreams(range(seed, seed + count))
        y = self.y.expand(count, -1)
        for step in build("sampler", settings).sample(self.prior, self.operator, y, streams):
            last = step
        return last.x0y.flatten(1).double()


def sliced_wasserstein(a: Tensor, b: Tensor, seed: int = 0) -> float:
    """Return the sliced Wasserstein-2 distance of two sets of as many points, [N, d], in original units."""
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn((a.shape[1], SLICES), generator=draw, dtype=torch.float64)
    directions /= directions.norm(dim=0)
    ordered = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    return SCALE * float(ordered.square().mean().sqrt())


def measure(
    dimension: int, measurements: int, problems: int, samples: int, known: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Return the distances of each configuration, one for each problem; those that are known are not measured again."""
    found: dict[str, list[float]] = {name: known.get(name, []) for name in ("floor", *CONFIGURATIONS)}
    for number in range(problems):
        missing = [name for name, distances in found.items() if len(distances) == number]
        if not missing:
            continue
        problem = Problem(dimension, measurements, 1000 * dimension + 100_000 * measurements + 7 * number)
        exact = problem.exact(samples, 1)
        for name in missing:
            settings = CONFIGURATIONS.get(name)
            drawn = problem.sampled(settings, samples, 10) if settings else problem.exact(samples, 2)
            found[name].append(sliced_wasserstein(drawn, exact))
    return found


def table(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return mean distances and their standard errors as the lines of a Markdown table."""
    lines = [f"| elements, measurements | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
    for name in next(iter(rows.values())):
        cells = []
        for row in rows.values():
            distances = torch.tensor(row[name])
            error = float(distances.std()) / len(distances) ** 0.5 if len(distances) > 1 else 0.0
            cells.append(f"{float(distances.mean()):.2f} ± {error:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main(arguments: list[str]) -> int:
    """Measure what is not yet in the work folder, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks mixtures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--problems", type=int, default=20, help="problems of each size")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each problem")
    parser.add_argument("--work", type=Path, default=Path("results/mixtures"), help="where rows are kept")
    parser.add_argument("--output", type=Path, default=Path("docs/mixtures.md"), help="the page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    stored = options.work / f"{options.problems}-{options.samples}.json"
    rows: dict[str, dict[str, list[float]]] = json.loads(stored.read_text()) if stored.exists() else {}
    for dimension in DIMENSIONS:
        for measurements in MEASUREMENTS:
            key, size = f"{dimension}, {measurements}", (dimension, measurements)
            rows[key] = measure(*size, options.problems, options.samples, rows.get(key, {}))
            write_atomic(stored, json.dumps(rows).encode())
            print(key, {name: sum(d) / len(d) for name, d in rows[key].items()}, file=sys.stderr, flush=True)
    paragraphs = (__doc__ or "").split("\n\n")[2:]
    count = (
        f"{options.problems} problems of each size, {options.samples} samples of each; mean ± standard error."
    )
    lines = [
        "# Posteriors that are known",
        "",
        "Written by `python -m benchmarks mixtures`; do not edit.",
        "",
    ]
    for text in (*paragraphs, count):
        lines += [*fill(" ".join(text.split())), ""]
    text = "\n".join([*lines, *table(rows)]) + "\n"
    write_atomic(options.output, text.encode())
    print(text)
    return 0
