"""What goes wrong with a sample, as a record: which sample, at which level, why in one word, and what helps.

Kernels and samplers hand such records on as they are; who draws the batch knows the samples' names, and only there,
and in the table of a run, does a record become a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Cause", "Failure", "sample_name", "told"]

Cause = Literal["denoiser", "decoder", "start", "diverged", "nan", "worker", "solver", "residual", "mode"]
"""Why, in a word; see `Failure`."""

_LOST: dict[Cause, str] = {
    "denoiser": "the prior's denoiser gave NaN",
    "decoder": "the prior's decoder gave NaN",
    "start": "the density is NaN where the chain starts",
    "diverged": "the chain diverged",
    "nan": "the sample is NaN",
    "worker": "whoever computed it failed",
}
_DOUBTED: dict[Cause, str] = {
    "solver": "conjugate gradients stopped with draws up to {:.2g} posterior standard deviations off",
    "residual": "the measurement is not explained, the residual is up to {:.2f} standard deviations of the noise",
    "mode": "no level explains the measurement, the least residual is {:.3f} standard deviations of the noise; "
    "the result is likely wrong",
}


@dataclass(frozen=True)
class Failure:
    """Something that went wrong with a sample, which is lost or to be doubted.

    Attributes:
        sample: its place in the batch, from 0.
        level, levels: the annealing level, from 0, and how many there are; of 0 where nobody knows.
        sigma: noise level there.
        cause: lost are samples whose `denoiser` or `decoder` gave NaN, whose chain had no density at its `start` or
            `diverged`, or that are `nan` for another reason; and those whose `worker` failed as often as they were
            given out, which the same command tries again. To be doubted are those whose `solver` stopped early, whose
            `residual` the noise does not explain, and those in a wrong `mode`.
        advice: what helps, in a sentence without a full stop; empty where nobody knows.
        size: how bad it is, for what can be doubted: in posterior standard deviations (`solver`) or in those of the
            noise.
    """

    sample: int
    level: int
    levels: int
    sigma: float
    cause: Cause
    advice: str = ""
    size: float = 0.0

    @property
    def lost(self) -> bool:
        """Whether the sample is lost, rather than to be doubted."""
        return self.cause in _LOST

    def __str__(self) -> str:
        if self.lost:
            at = (
                f" at level {self.level + 1} of {self.levels} (sigma {self.sigma:.3g})" if self.levels else ""
            )
            text = f"lost{at}: {_LOST[self.cause]}"
        else:
            text = _DOUBTED[self.cause].format(self.size)
        return f"{text}; {self.advice}" if self.advice else text


def sample_name(image: str, run: int) -> str:
    """Return what people call a sample of an image; `run` is its place among them from 0, and people count from 1."""
    return f"{image}, sample {run + 1}"


def told(failures: Iterable[Failure], names: Sequence[str]) -> list[str]:
    """Return a line for each thing that went wrong: the samples it went wrong with, and the worst of them.

    Samples are lost at a level; what is doubted at several is told once.

    Args:
        failures: of a batch.
        names: of the samples of the batch.
    """
    alike: dict[Failure, list[Failure]] = {}
    for failure in failures:
        kind = replace(failure, sample=0, size=0.0)
        kind = kind if failure.lost else replace(kind, level=0, levels=0, sigma=0.0)
        alike.setdefault(kind, []).append(failure)
    lines = []
    for group in alike.values():
        samples = list(dict.fromkeys(names[failure.sample] for failure in group))
        more = f" and {len(samples) - 4} more" if len(samples) > 4 else ""
        shown = "; ".join(samples[:4])
        lines.append(f"{shown}{more}: {max(group, key=lambda failure: failure.size)}")
    return lines
