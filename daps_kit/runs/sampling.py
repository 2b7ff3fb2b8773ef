"""Samples of measurements in memory, batch by batch: what `daps_kit.sample` does once everything is checked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from daps_kit.contracts import Noise, Operator, Prior, Sampler, Step
from daps_kit.failures import sample_name, told
from daps_kit.parameters import joined, settled
from daps_kit.random import stream_seed

from .cost import mean_cost
from .draw import Drawn, draw
from .posterior import Posterior
from .progress import RunDisplay

__all__ = ["Measured", "sample_all"]

Pair = tuple[int, int]
"""A measurement and the run of a sample of it, both from 0."""


@dataclass(frozen=True)
class Measured:
    """Measurements, and how each came about.

    Attributes:
        operators: of each.
        y: [B, ...].
        single: whether there is one, which was given without the axis B.
    """

    operators: Sequence[Operator]
    y: Tensor
    single: bool

    def batches(self, pairs: Sequence[Pair], size: int) -> list[list[Pair]]:
        """Cut pairs into batches of at most a size; operators are joined only where their noise is the same."""
        firsts: list[Noise] = []
        kinds = []
        for operator in self.operators:
            alike = [kind for kind, noise in enumerate(firsts) if _same(noise, operator.noise)]
            kinds.append(alike[0] if alike else len(firsts))
            firsts += [] if alike else [operator.noise]
        chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        return [list(part) for chunk in chunks for _, part in groupby(chunk, lambda pair: kinds[pair[0]])]

    def stacked(self, places: Sequence[int]) -> tuple[Operator, Tensor]:
        """Return those at some places as one operator and its measurements."""
        chosen = [self.operators[b] for b in places]
        return joined(chosen), self.y[torch.tensor(places, device=self.y.device)]

    def name(self, pair: Pair) -> str:
        """Return what people call a sample."""
        name = sample_name(f"measurement {pair[0] + 1}", pair[1])
        return name.partition(", ")[2] if self.single else name


def _same(one: Noise, other: Noise) -> bool:
    """Whether two noise models are the same in all that they hold."""
    if one is other or type(one) is not type(other):
        return one is other
    mine, its = vars(one), vars(other)
    return mine.keys() == its.keys() and all(
        torch.equal(value, its[key])
        if isinstance(value, Tensor) and isinstance(its[key], Tensor)
        else bool(value == its[key])
        for key, value in mine.items()
    )


def sample_all(
    sampler: Sampler,
    prior: Prior,
    measured: Measured,
    runs: int,
    seed: int,
    batch_size: int | None = None,
    *,
    quiet: bool = True,
) -> Posterior:
    """Draw samples of p(x0 | y) of each measurement.

    Args:
        sampler, prior: what draws, and from what.
        measured: the measurements.
        runs: samples of each.
        seed: sample (b, run) depends on seed, b and run alone.
        batch_size: samples computed at once, all where not given; those of one measurement together where the sampler
            wants that.
        quiet: show no progress.

    Warns:
        RuntimeWarning: a sample is lost or to be doubted; the caller's caller is who is warned.
    """
    pairs = [(b, run) for b in range(len(measured.y)) for run in range(runs)]
    size = batch_size or len(pairs)
    if sampler.together:
        size = max(1, size // runs) * runs
    batches = measured.batches(pairs, size)
    found: list[Drawn] = []
    with RunDisplay(quiet=quiet) as display:
        display.plan("samples", len(pairs), 0)
        for batch in batches:
            drawn = _drawn(sampler, prior, measured, batch, seed, display)
            names = [measured.name(pair) for pair in batch]
            for line in (*drawn.warnings, *told((*drawn.lost.values(), *drawn.doubts), names)):
                warnings.warn(line, RuntimeWarning, stacklevel=3)
            found.append(drawn)
    x0 = _joined([drawn.x0 for drawn in found], runs)
    assert x0 is not None

    @torch.no_grad()
    def residuals() -> Tensor:
        rows = []
        for batch, drawn in zip(batches, found, strict=True):
            operator, y = measured.stacked([b for b, _ in batch])
            values = [[trace[-1] for trace in each.values()] for each in drawn.parameters]
            at = settled(operator, torch.tensor(values, dtype=torch.float64) if values else None)
            rows.append(at.residual(drawn.x0, y))
        return torch.cat(rows).reshape(-1, runs)

    @torch.no_grad()
    def pictures() -> Tensor:
        operator, y = measured.stacked(range(len(measured.y)))
        return operator.to_image(y)

    return Posterior(
        x0,
        measured.y,
        residuals=residuals,
        pictures=pictures,
        failures={
            batch[place]: failure
            for batch, drawn in zip(batches, found, strict=True)
            for place, failure in drawn.lost.items()
        },
        cost=mean_cost([(drawn.cost, len(batch)) for batch, drawn in zip(batches, found, strict=True)]),
        single=measured.single,
        averages=_joined([drawn.average for drawn in found], runs),
        traces=[trace for drawn in found for trace in drawn.parameters],
        periods=unknown.periods if (unknown := measured.operators[0].parameters) is not None else None,
    )


def _joined(parts: Sequence[Tensor | None], runs: int) -> Tensor | None:
    """Return images of batches, [B, runs, C, H, W]; None where a batch has none."""
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    images = torch.cat(whole)
    return images.reshape(-1, runs, *images.shape[1:])


def _drawn(
    sampler: Sampler, prior: Prior, measured: Measured, batch: Sequence[Pair], seed: int, display: RunDisplay
) -> Drawn:
    """Draw a batch, and show how it goes."""
    operator, y = measured.stacked([b for b, _ in batch])

    def watch(step: Step) -> None:
        @torch.no_grad()
        def residual() -> float:
            at = settled(operator, step.parameters)
            return float(at.residual(prior.decode(step.x0y), y).nanmean())

        display.level(step.level, step.levels, step.sigma, residual)

    display.begin(len(batch))
    drawn = draw(sampler, prior, operator, y, [stream_seed(seed, "sampler", *pair) for pair in batch], watch)
    display.finish(len(batch))
    return drawn
