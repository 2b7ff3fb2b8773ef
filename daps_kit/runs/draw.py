"""A batch of samples, drawn: the one place where a sampler runs, for `daps-kit run` and for `daps_kit.sample`.

What it costs is counted here, too, for any sampler: see `cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Prior, RandomStreams, Sampler, Step
from daps_kit.errors import RefusalError
from daps_kit.failures import Failure

from .cost import Cost, Meter

__all__ = ["Drawn", "draw", "require_able"]


@dataclass(frozen=True)
class Drawn:
    """A batch of samples.

    Attributes:
        x0: the images, [B, C, H, W], NaN where a sample is lost.
        lost: why, by the place of the sample in the batch.
        doubts: what else went wrong with samples.
        warnings: what the sampler says of the run as a whole.
        cost: of a sample, on average.
        parameters: of each sample, the values of what is unknown of the operator after each level, by their names.
        average: see `Step`, [B, C, H, W], NaN where a sample is lost.
    """

    x0: Tensor
    lost: dict[int, Failure]
    doubts: list[Failure]
    warnings: list[str]
    cost: Cost
    parameters: tuple[dict[str, list[float]], ...] = ()
    average: Tensor | None = None


def draw(
    sampler: Sampler,
    prior: Prior,
    operator: Operator,
    y: Tensor,
    seeds: Sequence[int],
    watch: Callable[[Step], None] = lambda step: None,
    called: Callable[[], None] = lambda: None,
) -> Drawn:
    """Draw a sample for each measurement.

    Args:
        sampler, prior: what draws, and from what.
        operator: whose sample b is measured as y[b].
        y: measurements, [B, ...].
        seeds: of the random stream of each sample.
        watch: sees every step.
        called: hears of every call of the prior's denoiser.

    Raises:
        RefusalError: the sampler cannot do this.
        RuntimeError: the sampler took no step.
    """
    require_able(sampler, prior, operator)
    meter = Meter(called)
    reported: list[Failure] = []
    warnings: list[str] = []
    step: Step | None = None
    values: list[Tensor] = []
    measured = meter.prior(prior), meter.operator(operator)
    for step in sampler.sample(*measured, y, RandomStreams(seeds, y.device)):
        reported += step.failures
        warnings += step.warnings
        values += [] if step.parameters is None else [step.parameters]
        watch(step)
    if step is None:
        raise RuntimeError(f"{type(sampler).__name__} took no step")
    with torch.no_grad():
        x0 = prior.decode(step.x0y).detach().clone()
    finite = torch.isfinite(x0).flatten(1).all(1)
    x0[step.failed | ~finite] = torch.nan
    average = None if step.average is None else step.average.masked_fill(x0.isnan(), torch.nan)

    reasons = {failure.sample: failure for failure in reversed(reported) if failure.lost}  # the first of each
    lost = {}
    for place, (failed, whole) in enumerate(zip(step.failed.tolist(), finite.tolist(), strict=True)):
        # Where a sampler starts several times, a sample that was lost on the way may yet have come to its end.
        if failed or not whole:
            unsaid = Failure(place, step.level, step.levels, step.sigma, "nan" if failed else "decoder")
            lost[place] = reasons.get(place, unsaid) if failed else unsaid
    doubts, cost = [f for f in reported if not f.lost], meter.cost(len(y))
    if operator.parameters is None or not values:
        return Drawn(x0, lost, doubts, warnings, cost, average=average)
    traces = torch.stack(values, 2).tolist()
    named = tuple(dict(zip(operator.parameters.names, rows, strict=True)) for rows in traces)
    return Drawn(x0, lost, doubts, warnings, cost, named, average)


def require_able(sampler: Sampler, prior: Prior, operator: Operator) -> None:
    """See that a sampler can do what it is asked for.

    Raises:
        RefusalError: it cannot; the text says why.
    """
    if operator.parameters is not None and not sampler.infers:
        names = ", ".join(operator.parameters.names)
        raise RefusalError(f"sampler: it does not draw what is unknown of the operator ({names}); daps does")
    if why := sampler.refusal(prior, operator):
        raise RefusalError(f"sampler: {why}")
