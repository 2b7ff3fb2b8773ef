"""What was found of a recipe, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daps_kit.runs.ensemble import interval

from .ranks import Coverage

__all__ = ["Found"]

SURE = 3.0
"""Standard errors from which coverage is called wrong."""


@dataclass(frozen=True)
class Found:
    """What was found of a recipe.

    Attributes:
        name: of the recipe.
        path: the folder with coverage.md, coverage.json, coverage.svg and the run.
        runs: samples of each truth.
        images: how many truths count.
        truths: what they are, in words.
        by_kind: coverage of pixels, blocks, projections, the fit to y, and of whole images by TARP where all have one
            shape.
        groups: spread and error of groups of pixels.
        widen: factor by which intervals of pixels are to be widened to cover what is due.
    """

    name: str
    path: Path
    runs: int
    images: int
    truths: str
    by_kind: dict[str, Coverage]
    groups: list[tuple[float, float]]
    widen: float

    @property
    def k(self) -> int:
        """Which interval is judged: that of 90 %, or the whole range of few samples."""
        return interval(self.runs)

    @property
    def verdict(self) -> str:
        """What it comes to, in a sentence."""
        wrong = {
            kind: c.deviation(self.k) for kind, c in self.by_kind.items() if abs(c.deviation(self.k)) > SURE
        }
        if not wrong:
            return f"calibrated, as far as {self.images} images tell"
        parts = [
            f"{kind} too {'narrow' if size < 0 else 'wide'}" for kind, size in wrong.items() if kind != "fit"
        ]
        parts += ["the samples explain y otherwise than the truths do"] if "fit" in wrong else []
        return f"not calibrated: {', '.join(parts)}"
