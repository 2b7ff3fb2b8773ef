"""What a run would stumble over before it samples: files, shapes, weights, values, what is not installed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from daps_kit.contracts import Prior
from daps_kit.errors import UserError
from daps_kit.prior_check.build import build_prior
from daps_kit.recipe import Recipe, resolved_yaml
from daps_kit.recipe.data import PriorData
from daps_kit.report.animation import require

from .devices import device_of
from .draw import require_able
from .folder import RunFolder
from .measurement import Bench

__all__ = ["Finding", "examine"]

SECONDS = 1.0
"""How long the items of a recipe are looked at; one of them is in any case."""


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        kind: `error`, what a run would refuse; `warning`, what it would warn of; `unseen`, what was not looked at.
        recipe: whose.
        text: a line.
    """

    kind: str
    recipe: str
    text: str


def examine(recipes: Iterable[Recipe], seconds: float = SECONDS) -> list[Finding]:
    """Build everything that recipes name, and read and measure as many of their items as there is time for.

    Nothing is sampled, and nothing is written.

    Args:
        recipes: the tasks of a recipe.
        seconds: for the items of each.
    """
    found: dict[Finding, None] = {}  # in order; what is wrong with a prior is wrong with it in every task
    built = _Built()
    for recipe in recipes:
        try:
            for finding in _examined(recipe, seconds, built):
                found[finding] = None
        except UserError as error:
            found[Finding("error", recipe.name, str(error))] = None
    return list(found)


class _Built:
    """The prior that was built last: most recipes of a sweep share it."""

    def __init__(self) -> None:
        self._last: tuple[object, Prior, list[str]] | None = None

    def prior(self, recipe: Recipe, device: torch.device) -> tuple[Prior, list[str]]:
        """Return the prior of a recipe, and what is warned of it."""
        key = (recipe.prior, recipe.data, device)
        if self._last is None or self._last[0] != key:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("default")
                prior = build_prior(recipe.prior, recipe.data, device)
            texts = [f"prior: {warning.message}" for warning in said if warning.category is UserWarning]
            self._last = (key, prior, texts)
        return self._last[1:]


def _examined(recipe: Recipe, seconds: float, built: _Built) -> Iterator[Finding]:
    try:
        RunFolder(recipe.output).require_fitting(resolved_yaml(recipe))
    except UserError as error:
        yield Finding("error", recipe.name, " ".join(map(str.strip, str(error).splitlines())))
    if recipe.video:
        try:
            require(recipe.video)
        except UserError as error:
            yield Finding("error", recipe.name, str(error))
    try:
        folder = RunFolder(recipe.output, recipe.store)
        if folder.store and recipe.execution.build().shared_folder:
            folder.require_shareable()
    except UserError as error:
        yield Finding("error", recipe.name, str(error))
    device = device_of(recipe.device)
    sampler = recipe.sampler.build()
    prior, said = built.prior(recipe, device)
    texts = list(said)
    bench = Bench(recipe, prior, device)
    texts += bench.warnings
    drawn = isinstance(recipe.data, PriorData)
    begun, seen = time.perf_counter(), 0
    for index in range(0 if drawn else len(bench.names)):
        if index and time.perf_counter() - begun > seconds:
            break
        measured = bench.measure(index)
        require_able(sampler, prior, measured.operator)
        texts += [f"{measured.name}: {doubt.text}" for doubt in measured.doubts]
        seen += 1
    yield from (Finding("warning", recipe.name, text) for text in dict.fromkeys(texts))
    if drawn:
        yield Finding("unseen", recipe.name, "the images, which are drawn from the prior")
    elif seen < len(bench.names):
        yield Finding("unseen", recipe.name, f"{len(bench.names) - seen} of {len(bench.names)} images")
    if recipe.check_prior:
        yield Finding("unseen", recipe.name, "whether the prior denoises (daps-kit check-prior)")
    if recipe.metrics:
        yield Finding("unseen", recipe.name, f"whether the weights of {', '.join(recipe.metrics)} can be had")
