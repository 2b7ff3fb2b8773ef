"""Settings of samplers, searched on images of their own before they meet the others on the images of the comparison.

    tuning:
      images: {use: images, path: validation/*.png}
      trials: 16
      metric: crps
      search: {dps: {zeta: [0.1, 3.0]}, daps: {restarts: {choices: [1, 2]}}}

For each task and budget a sampler is tried with so many settings, chosen by Optuna (TPE, from the comparison's seed),
and its best, by the mean of a metric over these images, is a further sampler of the comparison: `dps (tuned)`. Two
numbers are the ends of an interval, searched by its logarithm where they are positive and ten times apart or more, in
whole numbers where both are whole. Every trial is a run folder, so that the same command goes on where it was broken
off: what is found again leads to the same next try. The images have to be others than those of the comparison.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from daps_kit.errors import UserError
from daps_kit.recipe.data import ImagesData
from daps_kit.recipe.load import Recipe
from daps_kit.settings import Settings

__all__ = ["Choices", "Found", "Search", "TuningSettings", "require_other_images", "search"]

Value = float | int | str | bool


class Choices(Settings):
    """A list of values to choose from."""

    choices: list[Value] = Field(min_length=1, description="the values")


class TuningSettings(Settings):
    """The section `tuning` of a comparison."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    images: ImagesData = Field(description="images to tune on, others than those of the comparison")
    trials: int = Field(16, ge=1, description="settings that are tried for each sampler, task and budget")
    metric: Literal["crps", "psnr", "psnr_sample", "ssim", "lpips"] = Field(
        "crps", description="what is best, on average over the images"
    )
    runs: int | None = Field(
        None, ge=1, description="samples of each image; those of the comparison where not given"
    )
    search: dict[str, dict[str, list[float | int] | Choices]] = Field(
        min_length=1,
        description="for each sampler, its settings with the ends of their interval or their choices",
    )

    @field_validator("search")
    @classmethod
    def _intervals(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for sampler, bounds in value.items():
            for name, interval in bounds.items():
                if isinstance(interval, list) and (len(interval) != 2 or not interval[0] < interval[1]):
                    raise ValueError(f"{sampler}.{name}: expected two rising numbers, got {interval}")
            if not bounds:
                raise ValueError(f"{sampler}: expected at least one setting")
        return value


@dataclass(frozen=True)
class Search:
    """What is searched for a sampler on a task at a budget.

    Attributes:
        bounds: ends of an interval, or choices, by the name of a setting.
        trials: how many are tried.
        seed: of the search.
        trial: number of a trial and its settings -> the recipe on the images to tune on.
    """

    bounds: Mapping[str, list[float | int] | Choices]
    trials: int
    seed: int
    trial: Callable[[int, Mapping[str, Value]], Recipe]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        settings: the best ones; empty where no trial gave a number.
        value: their metric.
        tried: settings and metric of every trial; NaN where it failed.
    """

    settings: dict[str, Value]
    value: float
    tried: list[tuple[dict[str, Value], float]]


def corners(bounds: Mapping[str, list[float | int] | Choices]) -> list[dict[str, Value]]:
    """Return the lowest and the highest settings: what has to be allowed, for all between to be."""
    lists = {name: value.choices if isinstance(value, Choices) else value for name, value in bounds.items()}
    return [{name: values[end] for name, values in lists.items()} for end in (0, -1)]


def search(what: Search, better: int, judge: Callable[[Recipe], float]) -> Found:
    """Try settings and return the best.

    Args:
        what: is searched.
        better: 1 where more is better, -1 where less is.
        judge: runs a recipe and returns its metric; NaN where it failed.

    Raises:
        UserError: Optuna is not installed.
    """
    try:
        optuna: Any = importlib.import_module("optuna")
    except ImportError:
        raise UserError("tuning: needs optuna; install it with: pip install 'daps-kit[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=what.seed), direction="maximize" if better > 0 else "minimize"
    )
    space = {name: _distribution(optuna, value) for name, value in what.bounds.items()}
    tried: list[tuple[dict[str, Value], float]] = []
    for number in range(what.trials):
        trial = study.ask(space)
        settings = dict(trial.params)
        value = judge(what.trial(number, settings))
        tried.append((settings, value))
        if math.isfinite(value):
            study.tell(trial, value)
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    whole = [(settings, value) for settings, value in tried if math.isfinite(value)]
    if not whole:
        return Found({}, math.nan, tried)
    best = max(whole, key=lambda item: better * item[1])
    return Found(*best, tried)


def _distribution(optuna: Any, value: list[float | int] | Choices) -> Any:
    if isinstance(value, Choices):
        return optuna.distributions.CategoricalDistribution(value.choices)
    low, high = value
    log = low > 0 and high >= 10 * low
    whole = isinstance(low, int) and isinstance(high, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(low, high, log=log)


def require_other_images(tuned_on: Sequence[Path], compared_on: Sequence[Path]) -> None:
    """See that no image serves for both.

    Raises:
        UserError: one does; images are the same where their files' bytes are.
    """
    known = {hashlib.sha256(path.read_bytes()).digest(): path for path in compared_on}
    for path in tuned_on:
        if same := known.get(hashlib.sha256(path.read_bytes()).digest()):
            raise UserError(
                f"tuning.images: {path} is among the images of the comparison ({same.name}); "
                "settings have to be tuned on others"
            )
