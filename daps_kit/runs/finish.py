"""What is made from the samples once they are all there: metrics, mean and standard deviation, pictures, tables."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from daps_kit.failures import Failure
from daps_kit.images import encode_png, image_png, png_is_whole
from daps_kit.parameters import KERNEL, gathered, near_each_other, within
from daps_kit.report.summary import metrics_markdown
from daps_kit.store import Key

from .cost import COSTS
from .ensemble import moments
from .folder import RunFolder, Sample, averages
from .measurement import Bench
from .metrics import Summary, score
from .perceptual import Collection, Perceptual
from .pictures import MAX_ROWS, MAX_SAMPLES, Row, draw_grid, draw_kernel, draw_std, draw_strip, strip_size

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["draw_measurement", "finish", "join"]


def finish(
    folder: RunFolder,
    name: str,
    bench: Bench,
    runs: int,
    perceptual: Perceptual,
    *,
    as_stated: bool = False,
    widen: float = 1.0,
) -> tuple[dict[str, Any], list[Row]]:
    """Judge the samples of a run and write everything that is made from them.

    Args:
        folder: of the run; it holds every measurement and every sample.
        name: the title of picture and table.
        bench: gives the items and their operators.
        runs: samples of each item.
        perceptual: further metrics.
        as_stated: whether the sampler's residuals tell about the noise.
        widen: factor by which the intervals of pixels are widened.

    Returns:
        the content of metrics.json, and the rows of the grid.
    """
    lost: list[dict[str, Any]] = []
    doubted: list[dict[str, Any]] = []
    rows: list[Row] = []
    collection, summary = Collection(perceptual.features), Summary()
    costs = {key: array("d") for key in COSTS}
    with folder.metrics() as file:
        for index, item in enumerate(bench.names):
            samples = folder.samples(item, runs)
            scores, row = _finish_item(folder, bench, index, samples, perceptual, collection, widen)
            lost += [_record(item, run, s.failure) for run, s in enumerate(samples) if s.failure]
            doubted += [_record(item, run, doubt) for run, s in enumerate(samples) for doubt in s.doubts]
            if as_stated:
                scores["noise"] = _check_noise(folder, bench, index, samples)
            for key, field in COSTS.items():
                scores[key] = [getattr(sample.cost, field, None) for sample in samples]
                costs[key].extend(cost for cost in scores[key] if cost is not None)
            summary.add(scores)
            file.add(item, scores)
            if len(rows) < MAX_ROWS:
                rows.append(row)
        means = summary.content()
        for choice, distances in collection.summary().items():
            means[choice] |= distances
        metrics = file.write(
            {
                "format": 1,
                "name": name,
                **{key: math.fsum(known) / len(known) if known else None for key, known in costs.items()},
                "widen": widen,
                "summary": means,
                "lost": lost,
                "doubted": doubted,
            }
        )
    folder.store.finish()
    folder.write_text("metrics.md", metrics_markdown(name, metrics))
    count = len(bench.names)
    heading = f"The first {MAX_ROWS} of {count} images" if count > MAX_ROWS else ""
    folder.write(folder.grid, encode_png(draw_grid([(heading, rows)], name)))
    return metrics, rows


def join(folder: RunFolder, name: str, parts: Sequence[tuple[str, dict[str, Any], list[Row]]]) -> None:
    """Write the picture and the table of several tasks, each with its heading, metrics and rows."""
    folder.write(folder.grid, encode_png(draw_grid([(heading, rows) for heading, _, rows in parts], name)))
    folder.write_text(
        "metrics.md", "\n".join(metrics_markdown(heading, metrics) for heading, metrics, _ in parts)
    )


def _check_noise(
    folder: RunFolder, bench: Bench, index: int, samples: Sequence[Sample]
) -> dict[str, Any] | None:
    """Return what the samples of an item that are not lost say of its noise."""
    alive = [sample.x0 for sample in samples if not sample.failure]
    found = (
        bench.check_noise(index, folder.measured(bench.names[index])[0], torch.stack(alive))
        if alive
        else None
    )
    return found.record() if found else None


def _record(image: str, run: int, failure: Failure) -> dict[str, Any]:
    """Return what went wrong with a sample as metrics.json has it; the level counts from 1, as in the message."""
    at = {"level": failure.level + 1, "levels": failure.levels, "sigma": failure.sigma}
    size = {} if failure.lost else {"size": failure.size}
    return {
        "image": image,
        "run": run,
        **(at if failure.levels else {}),
        "cause": failure.cause,
        "advice": failure.advice,
        **size,
        "message": str(failure),
    }


def _finish_item(
    folder: RunFolder,
    bench: Bench,
    index: int,
    samples: Sequence[Sample],
    perceptual: Perceptual,
    collection: Collection,
    widen: float,
) -> tuple[dict[str, Any], Row]:
    """Return the scores of an item and its row of the grid."""
    name, runs = bench.names[index], len(samples)
    y, truth = folder.measured(name)
    x0, means = torch.stack([sample.x0 for sample in samples]), averages(samples)
    periods = bench.periods(index)
    parameters = inferred(samples, periods, bench.named_truths(index))
    if parameters:
        bench.settle(index, {key: found["mean"] for key, found in parameters.items()})
        if folder.store.pictures:
            folder.write(folder.beside(name, "parameters.npz"), _traces(samples, periods))
        parameters = gathered(parameters, _kernel)
    kernel = parameters.pop(KERNEL, None)
    scores = score(
        x0,
        truth,
        bench.residual(index, y),
        perceptual.distances,
        multimodal=bench.multimodal(index),
        widen=widen,
        averages=means,
    )
    if parameters:
        scores["parameters"] = parameters
    if kernel:
        scores[KERNEL] = kernel
    if kernel and folder.store.pictures:
        folder.write(folder.beside(name, "kernel.png"), encode_png(draw_kernel(kernel)))
    collection.add(x0, truth, scores)
    for run in range(runs) if folder.store.pictures else ():
        _draw_sample(folder, name, run, None if samples[run].failure else x0[run])

    alive = [record["run"] for record in scores["samples"]]
    posterior = moments(x0[alive], widen, None if means is None else means[alive])
    mean, std = posterior.get("mean"), posterior.get("std")
    if posterior:
        folder.store.write(Key("posterior", name), posterior, {})
    if mean is not None and folder.store.pictures:
        folder.write(folder.beside(name, "mean.png"), image_png(mean))
    if std is not None and folder.store.pictures:
        folder.write(folder.beside(name, "std.png"), encode_png(draw_std(std)))

    shown = list(range(min(MAX_SAMPLES, runs)))
    if scores["reported"] and scores["reported"]["run"] not in shown:
        shown[-1] = scores["reported"]["run"]
    picture = bench.picture(index, y)
    draw_measurement(folder, name, picture, truth)
    return scores, Row(name, truth, picture, [(run, x0[run]) for run in shown], mean, std, scores)


def draw_measurement(folder: RunFolder, name: str, picture: Tensor, truth: Tensor | None) -> None:
    """Draw a measurement, as [1 or 3, h, w] in [-1, 1], and the true image, unless the pictures are there."""
    folder.write_picture(name, picture)
    path = folder.measurement(name).with_name(f"{name}-truth.png")
    if (
        truth is not None
        and folder.store.pictures
        and not png_is_whole(path, (truth.shape[-2], truth.shape[-1]))
    ):
        folder.write(path, image_png(truth))


def inferred(
    samples: Sequence[Sample], periods: Mapping[str, float], truths: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return what the samples that are not lost say of each number that was unknown, as metrics.json has it.

    Args:
        samples: with the values of what was unknown.
        periods: of those numbers that mean the same again after so much.
        truths: the true values, where they are known, which are told within half a period of the mean.
    """
    found: dict[str, Any] = {}
    for name, traces in _near(samples, periods).items():
        values, period, truth = traces[:, -1], periods.get(name), (truths or {}).get(name)
        if period is not None and truth is not None:
            truth = float(within(torch.tensor(truth, dtype=torch.float64), values.mean(), period))
        ends = torch.quantile(values, torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist()
        found[name] = {
            "mean": float(values.mean()),
            "std": float(values.std()) if len(values) > 1 else None,
            "interval": ends if len(values) > 1 else None,
            "period": period,
            "truth": truth,
            "samples": values.tolist(),
            "trace": traces.mean(0).tolist(),
        }
    return found


def _near(samples: Sequence[Sample], periods: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the values of each unknown number of the samples that are not lost, [runs, levels], near each other."""
    alive = [sample.parameters for sample in samples if not sample.failure and sample.parameters]
    return {
        name: near_each_other(
            torch.tensor([each[name] for each in alive], dtype=torch.float64), periods.get(name)
        )
        for name in (alive[0] if alive else ())
    }


def _traces(samples: Sequence[Sample], periods: Mapping[str, float]) -> bytes:
    """Return an archive of numpy with the values of each unknown number after each level: [runs, levels], of a kernel
    [runs, levels, h, w].
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: traces.numpy() for name, traces in _near(samples, periods).items()}
    joined = gathered(arrays, lambda numbers, size: np.stack(numbers, -1).reshape(*numbers[0].shape, *size))
    np.savez(buffer, **joined)
    return buffer.getvalue()


def _kernel(numbers: list[dict[str, Any]], size: tuple[int, int]) -> dict[str, Any]:
    """Return what the samples say of a whole kernel, as metrics.json has it.

    Its agreement is the mean of the cosines between the kernels of two samples, moved to where they are most alike:
    from 0 to 1; None for a single one.
    """

    def table(key: str) -> list[list[float]] | None:
        row = [number[key] for number in numbers]
        return None if None in row else np.reshape(row, size).tolist()

    samples = np.array([number["samples"] for number in numbers]).T
    unit = samples.reshape(-1, *size) / np.maximum(np.linalg.norm(samples, axis=1), 1e-30)[:, None, None]
    waves = np.fft.rfft2(unit, [2 * side for side in size])
    pairs = [np.fft.irfft2(a * b.conj()).max() for a, b in combinations(waves, 2)]
    agreement = float(np.mean(pairs)) if pairs else None
    return {"mean": table("mean"), "std": table("std"), "truth": table("truth"), "agreement": agreement}


def _draw_sample(folder: RunFolder, name: str, run: int, x0: Tensor | None) -> None:
    """Draw a sample and its trajectory, unless the pictures are there."""
    picture = folder.sample(name, run).with_suffix(".png")
    if x0 is not None and not png_is_whole(picture, (x0.shape[-2], x0.shape[-1])):
        folder.write(picture, image_png(x0))
    levels = folder.read_trajectory(name, run)
    strip = folder.trajectory(name, run).with_suffix(".png")
    if levels and not png_is_whole(strip, strip_size(levels)):
        folder.write(strip, encode_png(draw_strip(levels)))
