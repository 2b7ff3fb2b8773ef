"""The noise levels of a run."""

from __future__ import annotations

from dataclasses import dataclass

from .schedules import Schedule

__all__ = ["Annealing"]


@dataclass(frozen=True)
class Annealing:
    """The noise levels of a run.

    Attributes:
        schedule: places the levels; None: a geometric series where the prior knows its error, else that of EDM.
        levels: how many, at least 1.
        sigma_max: the first.
        sigma_min: the last.
        reach_sigma_min: false is the published rule: a grid of levels + 1 points without its last one.

    Schedule, levels and sigmas that are None are decided by the sampler (see `plan`), once it knows the problem.
    """

    schedule: Schedule | None
    levels: int | None = None
    sigma_max: float | None = None
    sigma_min: float | None = None
    reach_sigma_min: bool = True

    def __post_init__(self) -> None:
        high, low = self.sigma_max, self.sigma_min
        ordered = high is None or low is None or high > low > 0
        if not ordered or (self.levels is not None and self.levels < 1):
            raise ValueError(
                f"need levels >= 1 and sigma_max > sigma_min > 0, got {self.levels}, {high}, {low}"
            )

    def sigmas(self, within: tuple[float, float] = (0.0, float("inf"))) -> list[float]:
        """Return the noise levels, largest first, with both ends moved into the range `within`."""
        if self.schedule is None or self.levels is None or self.sigma_max is None or self.sigma_min is None:
            raise ValueError("schedule, levels, sigma_max and sigma_min must be decided first")
        high, low = (min(max(sigma, within[0]), within[1]) for sigma in (self.sigma_max, self.sigma_min))
        points = self.levels + (not self.reach_sigma_min)
        return [float(sigma) for sigma in self.schedule.sigmas(high, low, points)[: self.levels]]
