r"""Image quality and its summary.

    PSNR(a, b) = -10 log10(mean (a - b)^2 + 1e-8)

    SSIM(a, b) = mean of (2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a + s_b + c2))

on images in [0, 1], where m, s are means, variances and covariances under an 11 x 11 Gaussian window (sigma
1.5) moved over all places where it fits, c1 = 0.01^2, c2 = 0.03^2; images are first averaged over f x f
blocks, f = max(1, round(min(H, W) / 256)). So defined, both agree with the numbers that the field reports,
which are those of `piq`.

Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 2004.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from daps_kit.report.summary import CHOICES

from .ensemble import medoid, posterior_mean, spread_scores

__all__ = ["Summary", "mean_and_error", "psnr", "score", "ssim", "summarise", "to_unit"]

_WINDOW, _SIGMA = 11, 1.5


def to_unit(x: Tensor) -> Tensor:
    """Return images of [-1, 1] on [0, 1], clipped; NaN stays."""
    return ((x + 1) / 2).clamp(0, 1)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, [B]; 80 for equal images.

    Args:
        x, truth: images [B, C, H, W] in [-1, 1]; they are clipped.
    """
    error = (to_unit(x) - to_unit(truth)).square().flatten(1).mean(1)
    return -10 * torch.log10(error + 1e-8)


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity, [B], at most 1; NaN for images smaller than the window.

    Args:
        x, truth: images [B, C, H, W] in [-1, 1]; they are clipped.
    """
    a, b = to_unit(x), to_unit(truth)
    block = max(1, round(min(x.shape[-2:]) / 256))
    if block > 1:
        a, b = avg_pool2d(a, block), avg_pool2d(b, block)
    if min(a.shape[-2:]) < _WINDOW:
        return torch.full((len(x),), math.nan, device=x.device)
    at = (torch.arange(_WINDOW, dtype=a.dtype, device=a.device) - _WINDOW // 2).square()
    window = torch.exp(-(at[:, None] + at) / (2 * _SIGMA**2))
    window = (window / window.sum())[None, None]

    # A separable window would be faster and differ by 1e-5 where pictures are flat: single precision cancels.
    def local_mean(image: Tensor) -> Tensor:
        return conv2d(image.flatten(0, 1)[:, None], window).reshape(*image.shape[:2], -1)

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(1)


def mean_and_error(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Return the mean of the values that are known, its standard error and their count; None without any.

    The standard error is the sample standard deviation over the root of the count; None for a single value.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / max(1, len(known) - 1))
    error = spread / math.sqrt(len(known)) if len(known) > 1 else None
    return {"mean": mean, "standard_error": error, "images": len(known)}


def score(
    samples: Tensor,
    truth: Tensor | None,
    residual: Callable[[Tensor], Tensor],
    distances: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    *,
    multimodal: bool = False,
    widen: float = 1.0,
    averages: Tensor | None = None,
) -> dict[str, Any]:
    """Return how good the samples of one image are, as metrics.json has it.

    `posterior_mean` has the least error. `reported` is the sample that is shown, chosen without the truth:
    `reported_by` says whether it is the one nearest to the others (`medoid`) or that of the smallest `residual`, which
    tells the modes of a multimodal operator apart, and two samples. `oracle` is the best of the samples by each metric,
    which nobody can choose without the truth. `ensemble` says how well their spread fits the truth. Samples that hold
    NaN count nowhere.

    Args:
        samples: [runs, C, H, W] in [-1, 1].
        truth: [C, H, W], where it is known.
        residual: gives the residuals [B] of images [B, C, H, W], in standard deviations of the noise.
        distances: further metrics by name, [B] of images and true ones [B, C, H, W]; lower is better.
        multimodal: whether images quite unlike the true one may explain the measurement.
        widen: factor by which intervals are widened.
        averages: what the sampler gives with each, [runs, C, H, W] (see `posterior_mean`).
    """
    alive = [run for run in range(len(samples)) if bool(torch.isfinite(samples[run]).all())]
    if not alive:
        nothing = dict.fromkeys(
            ("reported", "reported_by", "sample_mean", "posterior_mean", "oracle", "ensemble")
        )
        return {**nothing, "samples": []}

    def judge(images: Tensor) -> list[dict[str, float]]:
        columns = {"residual": residual(images)}
        if truth is not None:
            many = truth.expand_as(images)
            further = {name: distance(images, many) for name, distance in (distances or {}).items()}
            columns = {"psnr": psnr(images, many), "ssim": ssim(images, many), **further, **columns}
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    chosen = samples[alive]
    records = [{"run": run, **row} for run, row in zip(alive, judge(chosen), strict=True)]
    metrics = [key for key in records[0] if key != "run"]
    oracle = {m: max if m in ("psnr", "ssim") else min for m in metrics if m != "residual"}
    by_residual = multimodal or len(alive) < 3
    least = min(records, key=lambda record: record["residual"])
    return {
        "reported": least if by_residual else records[medoid(chosen)],
        "reported_by": "residual" if by_residual else "medoid",
        "sample_mean": {key: math.fsum(record[key] for record in records) / len(records) for key in metrics},
        "posterior_mean": judge(
            posterior_mean(chosen, averages[alive] if averages is not None else None)[None]
        )[0],
        "oracle": None if truth is None else {m: best(r[m] for r in records) for m, best in oracle.items()},
        "ensemble": None if truth is None else spread_scores(chosen, truth, widen),
        "samples": records,
    }


class Summary:
    """Mean and standard error over images of every metric of `posterior_mean` and the other `CHOICES`.

    Images are taken in one by one; of each only its numbers are kept.
    """

    def __init__(self) -> None:
        # Where some images have a truth and others none, metrics are over those that have it.
        self._columns: dict[str, dict[str, array[float]]] = {choice: {} for choice in CHOICES}

    def add(self, scores: Mapping[str, Any]) -> None:
        """Take in what `score` gave for an image."""
        for choice, columns in self._columns.items():
            for key, value in (scores.get(choice) or {}).items():
                if key != "run":
                    columns.setdefault(key, array("d")).append(math.nan if value is None else value)

    def content(self) -> dict[str, Any]:
        """Return it as metrics.json has it."""
        return {
            choice: {key: mean_and_error(values) for key, values in columns.items()}
            for choice, columns in self._columns.items()
        }


def summarise(scores: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of images, as metrics.json has it."""
    summary = Summary()
    for item in scores:
        summary.add(item)
    return summary.content()
