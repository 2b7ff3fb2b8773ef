"""A run, from recipe to pictures: the one place where everything meets.

    resolved recipe -> prior, operators, sampler -> measurements -> samples, batch by batch -> metrics and pictures

A batch holds (image, run) pairs in a fixed order, whatever is finished already, and each pair draws from streams of
its own. So a run that was broken off goes on to the very samples that an unbroken one gives.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Prior, Step
from daps_kit.errors import UserError
from daps_kit.failures import told
from daps_kit.images import image_png, png_is_whole
from daps_kit.prior_check.build import build_prior
from daps_kit.prior_check.verdict import require_sound
from daps_kit.random import stream_seed
from daps_kit.recipe import Recipe, load_recipe, resolved_yaml
from daps_kit.report.page import write_report
from daps_kit.report.summary import outcome, unexplained

from .devices import batch_of, device_of, out_of_memory
from .draw import draw, require_able
from .finish import finish, join
from .folder import RunFolder, Sample
from .measurement import Bench
from .perceptual import load_perceptual
from .progress import RunDisplay
from .result import RunResult

__all__ = ["RunResult", "run"]

Pair = tuple[int, int]
"""Index of an item, and run."""


def run(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    quiet: bool = False,
    progress: RunDisplay | None = None,
) -> RunResult:
    """Run a recipe and return its result; what is finished in its output folder already is kept.

    Args:
        recipe: a file, the name of an installed recipe, or a recipe that was read.
        overrides: settings as `a.b.c=value`, which win over the file.
        quiet: show no progress and no warnings.
        progress: what shows them, of a program that runs several recipes.

    Raises:
        RecipeError: the recipe is wrong.
        UserError: something the user can put right; every file already written is whole and will be used again.
    """
    if not isinstance(recipe, Recipe):
        recipes = load_recipe(recipe, overrides)
    elif overrides:
        raise UserError("overrides change the text of a recipe; give its file, not a recipe that was read")
    else:
        recipes = (recipe,)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(progress or RunDisplay(quiet=quiet))
        folders, texts = (
            [RunFolder(each.output) for each in recipes],
            [resolved_yaml(each) for each in recipes],
        )
        for folder, text in zip(folders, texts, strict=True):
            stack.enter_context(folder.claim(text))
        jobs: list[_Job] = []
        for each, folder, text in zip(recipes, folders, texts, strict=True):
            jobs.append(_Job(each, folder, text, progress, _prior(each, jobs, progress)))
        # Everything is measured before anything is sampled, so that what is wrong shows at once.
        for job in jobs:
            job.measure()
            job.check_prior()
        # What cannot be had is said before the hours of sampling, and once for all tasks.
        perceptual = load_perceptual(
            [name for each in recipes for name in each.metrics], jobs[0].device, progress.warn
        )
        parts = []
        for job in jobs:
            job.sample()
            chosen = perceptual.only(job.recipe.metrics)
            metrics, rows = finish(
                job.folder,
                job.recipe.name,
                job.bench,
                job.recipe.runs,
                chosen,
                as_stated=job.sampler.as_stated,
                widen=job.recipe.widen,
            )
            for line in unexplained(metrics):
                progress.warn(f"{job.recipe.name}: {line}")
            _report(job.folder, progress)
            parts.append((job.recipe.name.rpartition("/")[2], metrics, rows))
            progress.say(f"{job.recipe.name}: {outcome(metrics)}")
        results = [RunResult(job.folder.path, tuple(job.bench.names), job.recipe.runs) for job in jobs]
        if len(jobs) > 1:
            path = Path(os.path.commonpath([job.folder.path.parent for job in jobs]))
            join(RunFolder(path), jobs[0].recipe.name.partition("/")[0], parts)
            results = [RunResult(path, tasks=tuple(results))]
    scores = [item for _, metrics, _ in parts for item in metrics["images"].values()]
    if not any(item["reported"] for item in scores):
        lost = parts[0][1]["lost"][0]
        raise UserError(f"every sample was lost; {lost['image']}, run {lost['run']}: {lost['message']}")
    progress.say(f"picture: {results[0].grid}")
    return results[0]


def _report(folder: RunFolder, progress: RunDisplay) -> None:
    """Write the page of a run; a run is not lost where that fails."""
    try:
        write_report(folder.path, write=folder.write)
    except Exception as error:  # noqa: BLE001 (whatever it is, samples and metrics are there)
        folder.require()
        progress.warn(f"{folder.path / 'report.html'} was not written: {error}")


def _prior(recipe: Recipe, jobs: Sequence[_Job], progress: RunDisplay) -> Prior:
    """Return the recipe's prior: that of an earlier task where it is the same, or a new one."""
    device = device_of(recipe.device)
    for job in jobs:
        fits = job.prior.shape or job.recipe.data == recipe.data
        if job.recipe.prior == recipe.prior and job.device == device and fits:
            return job.prior
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        prior = build_prior(recipe.prior, recipe.data, device)
    for warning in said:
        if warning.category is UserWarning:
            progress.warn(f"prior: {warning.message}")
    return prior


def _shown_levels(count: int, levels: int) -> set[int]:
    """Return which levels a strip shows: evenly spread, from the first to the last."""
    if count <= 1:
        return {levels - 1} if count else set()
    return {round(place * (levels - 1) / (count - 1)) for place in range(count)}


class _Batch(NamedTuple):
    """The samples of a batch on the CPU, and some levels on the way to them."""

    samples: list[Sample]
    trajectory: list[tuple[float, dict[str, Tensor]]]


class _Job:
    """One recipe, in its folder."""

    def __init__(
        self, recipe: Recipe, folder: RunFolder, resolved: str, progress: RunDisplay, prior: Prior
    ) -> None:
        self.recipe, self.folder, self.resolved = recipe, folder, resolved
        self.progress, self.prior = progress, prior
        self.device = device_of(recipe.device)
        self.sampler = recipe.sampler.build()
        self.bench = Bench(recipe, prior, self.device)
        self.stages = [recipe.runs]

    # --- measurements

    def measure(self) -> None:
        """Bring the measurement of every item into the folder.

        Raises:
            UserError: data cannot be read or do not fit, or have changed since the folder was begun.
        """
        for note in self.bench.notes:
            self.progress.note(note)
        for text in self.bench.warnings:
            self.progress.warn(text)
        if left := self.folder.others(self.bench.names):
            more = f" and {len(left) - 5} more" if len(left) > 5 else ""
            self.progress.note(
                f"{self.folder.path} holds samples of {', '.join(left[:5])}{more}, which the data no longer have; they "
                "stay, and count in no table"
            )
        doubted: dict[str, list[str]] = {}
        for index, name in enumerate(self.bench.names):
            stored = self.folder.read_measurement(name)
            measured = self.bench.measure(index, stored)
            for doubt in measured.doubts:
                doubted.setdefault(doubt.kind, []).append(f"{name}: {doubt.text}")
            operator = measured.operator
            require_able(self.sampler, self.prior, operator)
            self._compare_operator(name, operator)
            if stored is None:
                own = operator.state() if self.recipe.operator.per_image else {}
                self.folder.write_measurement(name, measured.y, measured.truth, own)
            elif not (_same(stored[0], measured.y) and _same(stored[1], measured.truth)):
                raise UserError(
                    f"data: '{name}' is not what it was when {self.folder.path} was begun; choose another output"
                )
            if not self.recipe.operator.per_image:
                self.folder.write_operator(operator.shape, operator.state())
            self._draw_measurement(index)
        for texts in doubted.values():
            others = f" (and {len(texts) - 1} more of this kind)" if len(texts) > 1 else ""
            self.progress.warn(f"{texts[0]}{others}")

    def _compare_operator(self, name: str, operator: Operator) -> None:
        """Refuse an operator that draws or reads something else than when the folder was begun."""
        there, here = self.folder.read_operator(name, operator.shape), operator.state()
        changed = [key for key in here if there and not _same(there.get(key), here[key].cpu())]
        if changed:
            raise UserError(
                f"operator: its {', '.join(changed)} is not what it was when {self.folder.path} was begun; choose "
                "another output"
            )

    def check_prior(self) -> None:
        """See that the prior denoises, if anything is left to be sampled.

        Raises:
            UserError: it is wrong; the text says in what.
        """
        if self.recipe.check_prior and self._missing():
            truth = self.folder.measured(self.bench.names[0])[1]
            for doubt in require_sound(self.prior, truth, self.device):
                self.progress.warn(f"prior: {doubt}")

    def _draw_measurement(self, index: int) -> None:
        name = self.bench.names[index]
        picture = self.folder.measurement(name).with_suffix(".png")
        beside = picture.with_name(f"{name}-truth.png")
        y, truth = self.folder.measured(name)
        if png_is_whole(picture) and (
            truth is None or png_is_whole(beside, (truth.shape[1], truth.shape[2]))
        ):
            return
        self.folder.write(picture, image_png(self.bench.picture(index, y)))
        if truth is not None:
            self.folder.write(beside, image_png(truth))

    # --- samples

    def sample(self) -> None:
        """Draw every sample that is not in the folder yet."""
        self.folder.extend(self.resolved)
        size = self._batch_size()
        self.stages = sorted({*self.folder.stages, self.recipe.runs})
        pairs, missing = self._pairs(), self._missing()
        if (
            missing
            and len(missing) < len(pairs)
            and (changes := self.folder.changed_environment(self.device))
        ):
            self.progress.warn(f"{self.recipe.name} was begun with other means: {'; '.join(changes)}")
        self.folder.write_environment(self.device, size, self.recipe.runs)
        self.progress.plan(self.recipe.name, len(pairs), len(pairs) - len(missing))
        start = 0
        while start < len(pairs):
            batch = self._batch(pairs, start, size)
            fresh = [place for place, pair in enumerate(batch) if pair in missing]
            if fresh:
                # Finished samples of the batch are drawn again, unseen, so that the others come out the same.
                drawn = self._draw(batch)
                if drawn is None:
                    size = self._halved(len(batch))
                    continue
                for place in fresh:
                    self._write(batch[place], drawn, place)
                self.progress.finish(len(fresh))
            start += len(batch)

    def _pairs(self) -> list[Pair]:
        """Return all pairs in the order in which they are drawn: runs that were asked for later come later."""
        items, runs = range(len(self.bench.names)), range(self.recipe.runs)
        return sorted(
            ((index, run) for index in items for run in runs), key=lambda pair: self._stage(pair[1])
        )

    def _stage(self, run: int) -> int:
        return bisect_right(self.stages, run)

    def _missing(self) -> set[Pair]:
        return {pair for pair in self._pairs() if not self._finished(*pair)}

    def _finished(self, index: int, run: int) -> bool:
        """Return whether a sample is there, of the right shape, and its trajectory where the recipe asks for one."""
        name = self.bench.names[index]
        sample = self.folder.read_sample(name, run)
        if sample is None or sample.x0.shape != self.bench.shapes[index] or not sample.x0.is_floating_point():
            return False
        levels = self.folder.read_trajectory(name, run) if self.recipe.trajectory else []
        shapes = {image.shape for _, images in levels or () for image in images.values()}
        return (
            levels is not None
            and shapes <= {sample.x0.shape}
            and (not self.recipe.trajectory or bool(levels))
        )

    def _batch_size(self) -> int:
        if self.recipe.batch_size != "auto":
            return self.recipe.batch_size
        largest = max(self.bench.shapes.values(), key=math.prod)
        return self.folder.batch_size or batch_of(largest, self.device)

    def _batch(self, pairs: Sequence[Pair], start: int, size: int) -> list[Pair]:
        """Return the next pairs, all of one stage and with images of one shape."""
        shapes = self.bench.shapes
        chunk = pairs[start : start + size]
        kinds = [(self._stage(run), shapes[index]) for index, run in chunk]
        other = (i for i, kind in enumerate(kinds) if kind != kinds[0])
        return list(chunk[: next(other, len(chunk))])

    def _halved(self, tried: int) -> int:
        if tried == 1:
            raise UserError(
                "not enough memory for a single sample; try smaller images, a smaller prior or another device"
            )
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        size = tried // 2
        self.folder.write_environment(self.device, size, self.recipe.runs)
        self.progress.warn(
            f"{self.recipe.name}: not enough memory for {tried} samples at once, trying {size}"
        )
        return size

    def _draw(self, batch: Sequence[Pair]) -> _Batch | None:
        """Return the samples of a batch; None where memory does not suffice."""
        try:
            return self._anneal(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _anneal(self, batch: Sequence[Pair]) -> _Batch:
        names = [self.bench.names[index] for index, _ in batch]
        operators = [self.bench.operator(index) for index, _ in batch]
        operator = type(operators[0]).stack(operators)
        ys = {name: self.folder.measured(name)[0] for name in dict.fromkeys(names)}
        y = torch.stack([ys[name] for name in names]).to(self.device)
        runs = [run for _, run in batch]
        seeds = [stream_seed(self.recipe.seed, "sampler", *item) for item in zip(names, runs, strict=True)]

        called = [f"{name}, run {run}" for name, run in zip(names, runs, strict=True)]
        trajectory: list[tuple[float, dict[str, Tensor]]] = []

        def watch(step: Step) -> None:
            self.folder.require()
            for note in step.notes:
                self.progress.note(note)
            for line in (*step.warnings, *told((f for f in step.failures if not f.lost), called)):
                self.progress.warn(line)
            self.progress.level(step.level, step.levels, step.sigma, self._residual(operator, y, step))
            if step.level in _shown_levels(self.recipe.trajectory, step.levels):
                images = {"x_t": step.x_t, "x0hat": step.x0hat, "x0y": step.x0y}
                trajectory.append((step.sigma, {key: self._decode(x).cpu() for key, x in images.items()}))

        self.progress.begin(len(batch))
        begun = time.perf_counter()
        drawn = draw(self.sampler, self.prior, operator, y, seeds, watch)
        self.folder.add_seconds(time.perf_counter() - begun, len(batch))
        for line in told(drawn.lost.values(), called):
            self.progress.warn(line)
        samples = [
            Sample(
                x,
                drawn.lost.get(place),
                drawn.cost,
                tuple(replace(doubt, sample=0) for doubt in drawn.doubts if doubt.sample == place),
            )
            for place, x in enumerate(drawn.x0.cpu())
        ]
        return _Batch(samples, trajectory)

    @torch.no_grad()
    def _decode(self, x: Tensor) -> Tensor:
        return self.prior.decode(x).detach().clone()

    def _residual(self, operator: Operator, y: Tensor, step: Step) -> Callable[[], float]:
        @torch.no_grad()
        def residual() -> float:
            return float(operator.residual(self._decode(step.x0y), y).nanmean())

        return residual

    def _write(self, pair: Pair, drawn: _Batch, place: int) -> None:
        name, run = self.bench.names[pair[0]], pair[1]
        if drawn.trajectory:
            levels = [
                (sigma, {key: x[place] for key, x in images.items()}) for sigma, images in drawn.trajectory
            ]
            self.folder.write_trajectory(name, run, levels)
        self.folder.write_sample(name, run, drawn.samples[place])


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two tensors agree, up to the rounding of another machine."""
    if a is None or b is None:
        return a is b
    room = 1e-4 * min(1.0, float(b.abs().max()) if b.numel() else 0.0)
    return a.shape == b.shape and torch.allclose(a.to(b), b, rtol=1e-4, atol=room)
