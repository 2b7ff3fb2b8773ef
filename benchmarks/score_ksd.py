"""What score-KSD sees: how often it tells right samples of a posterior from wrong ones, where the posterior is known.

    python -m benchmarks score_ksd [--repetitions 100] [--faces]

Of each of many measurements sets of right samples and of wrong ones are drawn, and judged by `daps_kit.runs.stein` at
0.4 of the noise of the measurement, with the exact score of the posterior. Told is the AUC: the share of pairs of sets
of one measurement in which the wrong one has the larger KSD^2, averaged over the measurements; 0.5 sees nothing, 1
everything. Beside it stand, for the fewest and the most samples, the AUCs of how far `spread` is from 1, which comes
from the same scores, and of how far the residual is from 1, which takes no scores. Wrong are samples

    noise x 1.5, x 0.67    of the posterior for that noise in place of the stated one
    spread x 0.8, x 1.25   moved towards the posterior mean, or from it
    a mode missing         of all modes but the second; it has at least a fifth of the weight

The posteriors are a Gaussian over 8 x 8 pixels, correlated as exp(-distance / 3), blurred, with noise of 0.05, and
mixtures of 25 Gaussians (docs/mixtures.md) over 8 and 80 elements, 2 of which are measured; modes are missing from
those where two have a fifth of the weight or more.

`--faces` asks the same of noise x 1.5 and x 0.67 for the shipped face prior and gaussian_blur: 8 samples by `daps`
of each of so many draws of the prior, one set each, judged at several noise levels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor

import daps_kit
from daps_kit.compare.matrix import Matrix
from daps_kit.compare.mixture import MixtureOfGaussians
from daps_kit.compare.posteriors import known_posterior
from daps_kit.contracts import RandomStreams
from daps_kit.runs.stein import SHARE, stein_discrepancy

SAMPLES = (8, 19, 64)
NOISES, SPREADS = (1.5, 0.67), (0.8, 1.25)
SETS = 5
"""Of right samples and of each kind of wrong ones, for a measurement."""
MODE = 0.2
"""The least weight of a mode that is left out."""


@dataclass(frozen=True)
class Problem:
    """A prior, a matrix and a measurement [m]."""

    prior: MixtureOfGaussians
    operator: Matrix
    y: Tensor

    def posterior(self, factor: float = 1.0) -> MixtureOfGaussians:
        """Return the posterior for noise of so many times the standard deviation."""
        return self.prior.given(Matrix(self.operator.matrix, factor * self.operator.sigma), self.y)


def pixels(seed: int) -> Problem:
    """Return 8 x 8 pixels of a Gaussian prior, blurred."""
    side = torch.arange(8, dtype=torch.float64)
    place = torch.cartesian_prod(side, side)
    distance = torch.cdist(place, place)
    covariance = 0.25 * (-distance / 3).exp()
    blur = (-distance.square() / 2).exp()
    operator = Matrix(blur / blur.sum(1, keepdim=True), 0.05)
    prior = MixtureOfGaussians(torch.zeros(1, 64), covariance[None], torch.ones(1))
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(64, generator=draw, dtype=torch.float64)
    return Problem(prior, operator, operator.matrix @ prior.draw(1, draw)[0] + 0.05 * noise)


def mixture(size: int) -> Callable[[int], Problem]:
    """Return problems with a mixture over so many elements, by seed."""

    def of(seed: int) -> Problem:
        known = known_posterior(f"mixture-{size}-2", seed)
        assert isinstance(known.prior, MixtureOfGaussians)
        assert isinstance(known.operator, Matrix)
        return Problem(known.prior, known.operator, known.y)

    return of


def with_modes(of: Callable[[int], Problem]) -> Iterator[Problem]:
    """Return those problems whose posterior has two modes of weight."""
    problems = map(of, count())
    return (p for p in problems if float(p.posterior().weights.sort().values[-2]) >= MODE)


POSTERIORS: dict[str, Callable[[], Iterator[Problem]]] = {
    "8 x 8 pixels": lambda: map(pixels, count()),
    "mixture of 8": lambda: map(mixture(8), count()),
    "mixture of 80": lambda: map(mixture(80), count()),
    "mixture of 8, two modes": lambda: with_modes(mixture(8)),
    "mixture of 80, two modes": lambda: with_modes(mixture(80)),
}


Draw = Callable[[int, torch.Generator], Tensor]
"""From how many and a generator to samples, [N, d]."""


def kinds(problem: Problem, posterior: MixtureOfGaussians, modes: bool) -> dict[str, Draw]:
    """Return how samples are drawn that are right, and those that are wrong, by what is wrong."""
    if modes:
        weights = posterior.weights.clone()
        weights[weights.argsort()[-2]] = 0
        rest = MixtureOfGaussians(posterior.means, posterior.covariances, weights)
        return {"right": posterior.draw, "a mode missing": rest.draw}
    mean = posterior.weights @ posterior.means

    def spread(factor: float) -> Draw:
        return lambda number, draw: mean + factor * (posterior.draw(number, draw) - mean)

    return {
        "right": posterior.draw,
        **{f"noise x {factor:g}": problem.posterior(factor).draw for factor in NOISES},
        **{f"spread x {factor:g}": spread(factor) for factor in SPREADS},
    }


def judge(problem: Problem, posterior: MixtureOfGaussians, x: Tensor, draw: torch.Generator) -> Tensor:
    """Return KSD^2 of samples [N, d] with the exact score, and how far spread and residual are from 1, [3]."""
    sigma = SHARE * problem.operator.sigma
    noisy = x + sigma * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    score = posterior.score(noisy[:, None, None], sigma)[:, 0, 0]
    residual = problem.operator.residual(x[:, None, None], problem.y).mean()
    found = stein_discrepancy(noisy, score)
    return torch.stack([found.squared, (found.spread - 1).abs(), (residual - 1).abs()])


def auc(higher: Tensor, lower: Tensor) -> Tensor:
    """Return the share of pairs in which one of the first [K, ...] is above one of the second; half of equal ones."""
    return ((higher[:, None] - lower).sign().mean((0, 1)) + 1) / 2


def measure(problems: Iterator[Problem], repetitions: int, modes: bool) -> dict[str, list[Tensor]]:
    """Return the AUC of what is judged, [3], by what is wrong, for each number of samples."""
    sums: dict[str, list[Tensor]] = {}
    for number, problem in enumerate(islice(problems, repetitions)):
        draw, posterior = torch.Generator().manual_seed(number), problem.posterior()
        for place, samples in enumerate(SAMPLES):
            judged = {
                name: torch.stack([judge(problem, posterior, make(samples, draw), draw) for _ in range(SETS)])
                for name, make in kinds(problem, posterior, modes).items()
            }
            for name, values in judged.items():
                if name != "right":
                    empty = [torch.zeros(3, dtype=torch.float64) for _ in SAMPLES]
                    sums.setdefault(name, empty)[place] += auc(values, judged["right"]) / repetitions
    return sums


def known(repetitions: int) -> None:
    """Print the table of known posteriors."""
    heads = ["posterior", "wrong", *(f"KSD, {n} samples" for n in SAMPLES)]
    heads += [f"{what}, {n}" for n in (SAMPLES[0], SAMPLES[-1]) for what in ("spread", "residual")]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, problems in POSTERIORS.items():
        modes = name.endswith("modes")
        for what, aucs in measure(problems(), repetitions, modes).items():
            shown = torch.cat([torch.stack(aucs)[:, 0], aucs[0][1:], aucs[-1][1:]]).tolist()
            print(f"| {name} | {what} | {' | '.join(f'{each:.2f}' for each in shown)} |", flush=True)


def faces(images: int) -> None:
    """Print what is seen with the shipped face prior."""
    prior = daps_kit.build("prior", {"use": "embedded"})
    shape = (3, 64, 64)

    def blur(factor: float) -> daps_kit.contracts.Operator:
        noise = {"use": "gaussian", "sigma": 0.05 * factor}
        return daps_kit.build(
            "operator",
            {"use": "gaussian_blur", "kernel_size": 15, "intensity": 1.5, "noise": noise},
            shape=shape,
        )

    operator, columns = (
        blur(1.0),
        ("sigma", "samples for noise", "KSD^2", "z", "KSD^2 above that of right ones", "spread", "seconds"),
    )
    truths = prior.sample(shape, RandomStreams(range(images)))
    y = operator.measure(truths, RandomStreams(range(images, 2 * images)))
    drawn = {f: daps_kit.sample(prior, blur(f), y, runs=8, seed=1) for f in (1.0, *NOISES)}
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for sigma in (0.02, 0.05, 0.1):
        right = None
        for factor, posterior in drawn.items():
            began = time.perf_counter()
            found = daps_kit.score_ksd(prior, operator, y, posterior, sigma=sigma)
            seconds = (time.perf_counter() - began) / images
            right = found.squared if right is None else right
            larger = f"{int((found.squared > right).sum())} of {images}" if factor != 1 else ""
            means = f"{float(found.squared.mean()):.4g} | {float(found.z.mean()):.2f} | {larger}"
            spread = f"{float(found.spread.mean()):.3f} ± {float(found.spread.std()) / images**0.5:.3f}"
            print(f"| {sigma:g} | x {factor:g} | {means} | {spread} | {seconds:.2f} |", flush=True)


def main(arguments: list[str]) -> int:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks score_ksd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repetitions", type=int, default=100, help="measurements of each posterior")
    parser.add_argument(
        "--faces", type=int, metavar="IMAGES", help="the face prior, on so many images, instead"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.faces:
        faces(options.faces)
    else:
        known(options.repetitions)
    return 0
