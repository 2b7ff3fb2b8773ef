"""Runs side by side: the settings in which they differ, and what the difference is on the images that they share.

For each metric of each image d_i = metric of a run minus that of the first, on the images that both have: of the same
name and the same true image, or where that is not known the same measurement. Their mean and its interval: 2.5 to
97.5 % of 10,000 means of as many images drawn with replacement (the percentile bootstrap, Efron and Tibshirani, "An
introduction to the bootstrap", 1993), always from the same stream of random numbers. Pairs leave out what makes one
image harder than another; a few images still tell little, and one tells nothing of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .reading import Result
from .summary import HEADINGS

__all__ = ["bootstrap", "comparison", "settings_that_differ"]

DRAWS = 10_000
LEAST = 2
"""Images that an interval needs."""

_LEFT_OUT = (
    "output",
    "device",
    "batch_size",
    "execution",
    "store",
    "check_prior",
    "name",
    "video",
    "trackers",
)
_MORE, _NEITHER = ("psnr", "ssim", "psnr_corrected"), ("residual", "coverage", "spread_error")
"""Metrics of which more is better, and those that should be right; of others less is better."""
_WORDS = {"posterior_mean": "mean", "sample_mean": "a sample", "ensemble": "spread"}


def comparison(results: Sequence[Result]) -> dict[str, Any]:
    """Return what differs between runs.

    Returns:
        `settings`: of each that differs its `key` and `values`, one a run. `pairs`: for each run after the first, its
        place `run`, how many images it shares, how many of the same name are `other` images, and `rows`: choice,
        metric, mean difference, interval (None for one image), and on how many of the images it is better.
    """
    first = results[0]
    pairs = []
    for place, other in enumerate(results[1:], 1):
        shared = [name for name in first.images if name in other.images]
        same = [name for name in shared if _same(first, other, name)]
        pairs.append(
            {
                "run": place,
                "images": len(same),
                "other": len(shared) - len(same),
                "rows": _rows(first, other, same),
            }
        )
    return {"settings": settings_that_differ([result.recipe for result in results]), "pairs": pairs}


def settings_that_differ(recipes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings in which resolved recipes differ: `key` and `values` as text, "–" where one has none."""
    leaves = [dict(_leaves(recipe)) for recipe in recipes]
    keys = dict.fromkeys(key for found in leaves for key in found)
    return [
        {"key": key, "values": [found.get(key, "–") for found in leaves]}
        for key in keys
        if key.partition(".")[0] not in _LEFT_OUT and len({found.get(key) for found in leaves}) > 1
    ]


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{key}" if path else key)
        ]
    if isinstance(value, list):
        return [(path, "[" + ", ".join(map(str, value)) + "]")]
    words = {None: "null", True: "true", False: "false"}
    return [(path, words[value] if value is None or isinstance(value, bool) else str(value))]


def _same(first: Result, other: Result, name: str) -> bool:
    """Return whether two runs mean the same image."""
    a, b = first.truth(name), other.truth(name)
    if a is None or b is None:
        a, b = first.measured(name), other.measured(name)
    return a is not None and b is not None and a.shape == b.shape and bool((a - b).abs().max() < 1e-4)


def _rows(first: Result, other: Result, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for choice, words in _WORDS.items():
        for key, heading in HEADINGS.items():
            values = [
                [(result.images[name].get(choice) or {}).get(key) for result in (first, other)]
                for name in names
            ]
            known = np.array([pair for pair in values if None not in pair], dtype=float).reshape(-1, 2)
            if not len(known) or key == "coverage_due":
                continue
            apart = known[:, 1] - known[:, 0]
            better = 1 if key in _MORE else 0 if key in _NEITHER else -1
            rows.append(
                {
                    "of": words,
                    "metric": heading,
                    "key": key,
                    "difference": float(apart.mean()),
                    "interval": bootstrap(apart),
                    "better": int((apart * better > 0).sum()) if better else None,
                    "images": len(apart),
                }
            )
    return rows


def bootstrap(
    values: npt.NDArray[np.float64], statistic: Callable[..., Any] = np.mean, level: float = 0.95
) -> list[float] | None:
    """Return the percentile interval of a statistic of values [N], None where they are too few.

    Args:
        values: one an image.
        statistic: of arrays along an axis, as `numpy.mean`.
        level: of the interval.
    """
    if len(values) < LEAST:
        return None
    draw = np.random.default_rng(0)
    block = max(1, 2_000_000 // len(values))
    found = np.concatenate(
        [
            statistic(values[draw.integers(0, len(values), (min(block, DRAWS - start), len(values)))], axis=1)
            for start in range(0, DRAWS, block)
        ]
    )
    tail = (1 - level) / 2
    return [float(np.quantile(found, tail)), float(np.quantile(found, 1 - tail))]
