"""The check of a prior, as `daps-kit check-prior` shows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from daps_kit.contracts import Prior
from daps_kit.errors import UserError

from .build import build_prior
from .choice import PriorChoice
from .known_images import known_images
from .verdict import Verdict, examine

__all__ = ["PriorReport", "build_choice", "report_on"]


@dataclass(frozen=True)
class PriorReport:
    """What was found of a prior.

    Attributes:
        label: how the prior is called.
        images: what it was checked on, in words.
        verdict: the numbers, problems and doubts.
    """

    label: str
    images: str
    verdict: Verdict

    @property
    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows of a table of mean squared errors, and how they compare."""
        levels = self.verdict.levels
        stored = any(level.stored is not None for level in levels)
        head = ("sigma", "error", "linear filter", "ratio", *(("calibration", "ratio") if stored else ()))
        rows: list[tuple[str, ...]] = []
        for level in levels:
            cells = [f"{level.sigma:g}", f"{level.mse:.3g}"]
            for other in (level.linear, level.stored) if stored else (level.linear,):
                cells += (
                    ["", ""] if other is None else [f"{other:.3g}", f"{level.mse / max(other, 1e-12):.2f}"]
                )
            rows.append(tuple(cells))
        return head, rows

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        on = f"{self.label}, checked on {self.images}"
        if self.verdict.problems:
            return f"{on}: wrong: {'; '.join(self.verdict.problems)}"
        if self.verdict.doubts:
            return f"{on}: not wrong, as far as these images tell; {'; '.join(self.verdict.doubts)}"
        best = max(self.verdict.levels, key=lambda level: level.linear / max(level.mse, 1e-12))
        gain = best.linear / max(best.mse, 1e-12)
        better = f"{gain:.1f} times smaller than a linear filter's (sigma {best.sigma:g})"
        return f"{on}: right; its error is {better if gain > 1.05 else 'that of a linear filter'}"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        verdict = asdict(self.verdict)
        return {
            "prior": self.label,
            "images": self.images,
            "right": not self.verdict.problems,
            "sentence": self.sentence,
            **verdict,
        }


def report_on(choice: PriorChoice) -> PriorReport:
    """Build a prior and check it, on a GPU where there is one.

    Raises:
        UserError: it cannot be built, or an image cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = build_choice(choice, device)
    x0, images = known_images(prior, choice.files, device)
    return PriorReport(choice.label, images, examine(prior, x0))


def build_choice(choice: PriorChoice, device: torch.device) -> Prior:
    """Return the prior that was chosen, told the shape of its data where it must be.

    Raises:
        UserError: it cannot be built.
    """
    if choice.data is not None:
        return build_prior(choice.settings, choice.data, device)
    try:
        return choice.settings.build(shape=None, device=device)
    except UserError:
        return choice.settings.build(shape=(3, 64, 64), device=device)  # one that must be told a shape
