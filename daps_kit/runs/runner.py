"""A run, from recipe to pictures: the one place where everything meets.

    resolved recipe -> prior, operators, sampler -> measurements -> samples, batch by batch -> metrics and pictures

A batch holds (image, run) pairs in a fixed order, whatever is finished already, and each pair draws from streams of
its own. So a run that was broken off goes on to the very samples that an unbroken one gives.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Prior, Step
from daps_kit.errors import LostError, UserError
from daps_kit.executor import Job, Pool
from daps_kit.failures import Failure, sample_name, told
from daps_kit.memory import require_memory
from daps_kit.parameters import settled
from daps_kit.prior_check.build import build_prior
from daps_kit.prior_check.verdict import require_sound
from daps_kit.recipe import Recipe, load_recipe, resolved_yaml
from daps_kit.report.animation import Format, animate, require
from daps_kit.report.page import write_report, write_side_by_side
from daps_kit.report.reading import result_in
from daps_kit.report.summary import outcome, unexplained
from daps_kit.settings import Shape
from daps_kit.store import Key
from daps_kit.tensor_file import DamagedFile

from .devices import batch_of, device_of, devices_of
from .dispatch import Work, dispatch
from .draw import require_able
from .finish import draw_measurement, finish, join
from .folder import RunFolder, Sample
from .measurement import Bench
from .perceptual import Perceptual, load_perceptual
from .pictures import Row
from .progress import RunDisplay
from .result import RunResult
from .shard import Shard
from .tracking import Tracking
from .worker import BEGIN, Batch, Into, Task, Trial, Worker, setup_of

__all__ = ["RunResult", "run"]

Pair = tuple[int, int]
"""Index of an item, and run."""

SEEN = 60.0
"""Seconds after which what a worker wrote to a shared folder must be seen here: file systems of a network remember
for a while what they knew of a folder."""

LOOKED_AT = 64
"""Items that are measured again when a run goes on, to see that the measurement comes out the same."""


def run(
    recipe: str | Path | Recipe | Sequence[Recipe],
    overrides: Sequence[str] = (),
    *,
    quiet: bool = False,
    progress: RunDisplay | None = None,
    shard: str | None = None,
    draw: bool = True,
) -> RunResult:
    """Run a recipe and return its result; what is finished in its output folder already is kept.

    Args:
        recipe: a file, the name of an installed recipe, or a recipe that was read, or those of its tasks.
        overrides: settings as `a.b.c=value`, which win over the file.
        quiet: show no progress and no warnings.
        progress: what shows them, of a program that runs several recipes.
        shard: a part such as `3/16`, which alone is drawn, into a folder of its own; nothing is made of the samples.
        draw: whether samples that are missing are drawn; else they are an error.

    Raises:
        RecipeError: the recipe is wrong.
        UserError: something the user can put right; every file already written is whole and will be used again.
    """
    if isinstance(recipe, str | Path):
        recipes = load_recipe(recipe, overrides)
    elif overrides:
        raise UserError("overrides change the text of a recipe; give its file, not a recipe that was read")
    else:
        recipes = (recipe,) if isinstance(recipe, Recipe) else tuple(recipe)
    part = Shard.read(shard) if shard is not None else None
    if part is not None:
        recipes = tuple(each.model_copy(update={"output": part.folder(each.output)}) for each in recipes)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(progress or RunDisplay(quiet=quiet))
        folders, texts = (
            [RunFolder(each.output, each.store) for each in recipes],
            [resolved_yaml(each) for each in recipes],
        )
        for folder, text in zip(folders, texts, strict=True):
            stack.enter_context(folder.claim(text))
        jobs: list[_Job] = []
        for each, folder, text in zip(recipes, folders, texts, strict=True):
            jobs.append(_Job(each, folder, text, progress, _prior(each, jobs, progress), part))
        # Everything is measured before anything is sampled, so that what is wrong shows at once.
        for job in jobs:
            job.measure()
            job.check_prior()
        # What cannot be had is said before the hours of sampling, and once for all tasks.
        for each in recipes:
            if each.video:
                require(each.video)
        perceptual = load_perceptual(
            [name for each in recipes for name in each.metrics], jobs[0].device, progress.warn
        )
        if part is not None:
            for job in jobs:
                job.sample()
                progress.say(f"{job.recipe.name}: part {part.number} of {part.parts} is in {job.folder.path}")
            done = [RunResult(job.folder.path, tuple(job.mine_names()), job.recipe.runs) for job in jobs]
            return done[0] if len(done) == 1 else RunResult(recipes[0].output.parent, tasks=tuple(done))
        parts = []
        for job in jobs:
            if not draw:
                job.require_whole()
            with job.tracking as tracking:
                tracking.begin(job.recipe.name, job.folder.path, job.resolved)
                chosen = perceptual.only(job.recipe.metrics)
                try:
                    job.sample()
                    metrics, rows = job.finish(chosen)
                except DamagedFile as error:
                    progress.warn(f"{error}; all files are read, and what is damaged is made again")
                    job.read_all()
                    job.sample()
                    metrics, rows = job.finish(chosen)
                for line in unexplained(metrics):
                    of = f"{job.recipe.name}: "
                    progress.warn(line if line.startswith(of) else of + line)
                _report(job.folder, progress, job.recipe.video, inline=len(jobs) == 1)
                tracking.finished(metrics, job.folder.grid)
            parts.append((job.recipe.name.rpartition("/")[2], metrics, rows))
            progress.say(f"{job.recipe.name}: {outcome(metrics)}")
        results = [RunResult(job.folder.path, tuple(job.bench.names), job.recipe.runs) for job in jobs]
        if len(jobs) > 1:
            path = Path(os.path.commonpath([job.folder.path.parent for job in jobs]))
            name, whole = jobs[0].recipe.name.partition("/")[0], RunFolder(path)
            join(whole, name, parts)
            with _not_lost(whole, progress, "report.html"):
                tasks = [job.folder.path for job in jobs]
                page = path / "report.html"
                write_side_by_side(tasks, page, write=whole.write, title=name, fresh=True)
            results = [RunResult(path, tasks=tuple(results))]
    scores = [item for _, metrics, _ in parts for item in metrics["images"].values()]
    if not any(item["reported"] for item in scores):
        lost = parts[0][1]["lost"][0]
        raise LostError(
            f"every sample was lost; {sample_name(lost['image'], lost['run'])}: {lost['message']}"
        )
    progress.say(f"picture: {results[0].grid}")
    return results[0]


def _report(folder: RunFolder, progress: RunDisplay, video: Format | None, *, inline: bool) -> None:
    """Write the page of a run, and its animations where they are asked for."""
    with _not_lost(folder, progress, "report.html"):
        write_report(folder.path, write=folder.write, inline=inline)
    if video:
        with _not_lost(folder, progress, f"trajectory.{video}"):
            result = result_in(folder.path)
            for name in result.images:
                if content := animate(result, name, video):
                    folder.write(folder.beside(name, f"trajectory.{video}"), content)


@contextlib.contextmanager
def _not_lost(folder: RunFolder, progress: RunDisplay, file: str) -> Iterator[None]:
    """Say what goes wrong with something that is made from the results: samples and metrics are there."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever it is)
        folder.require()
        progress.warn(f"{folder.path}: {file} was not written: {error}")


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


class _Piece(NamedTuple):
    """A batch of pairs, and the places in it of those that are not finished yet.

    The finished ones are drawn again, unseen, so that the others come out the same.
    """

    pairs: list[Pair]
    fresh: list[int]


class _Job:
    """One recipe, in its folder."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        resolved: str,
        progress: RunDisplay,
        prior: Prior,
        shard: Shard | None,
    ) -> None:
        self.recipe, self.folder, self.resolved, self.shard = recipe, folder, resolved, shard
        self.progress, self.prior = progress, prior
        self.device = device_of(recipe.device)
        self.sampler = recipe.sampler.build()
        self.executor = recipe.execution.build()
        if self.executor.shared_folder:
            folder.require_shareable()
        self.bench = Bench(recipe, prior, self.device)
        folder.begin(self.bench.names, recipe.runs)
        self.tracking = Tracking([recipe.registry.tracker(name) for name in recipe.trackers], progress.warn)
        self.stages = sorted({*folder.stages, recipe.runs})
        self.outline = True

    def read_all(self) -> None:
        """Take nothing that is in the folder for whole before it was read to its end."""
        self.outline = False
        self.__dict__.pop("missing", None)
        self.measure()

    # --- measurements

    def measure(self) -> None:
        """Bring the measurement of every item into the folder.

        Of many that are there already, all but the first are taken as they are: the recipe of the folder knows its
        data by their hashes, and each file is read to its end where it is used.

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
        for place, index in enumerate(self._mine()):
            name = self.bench.names[index]
            if self.outline and place >= LOOKED_AT and self._recall(index):
                continue
            stored = self.folder.read_measurement(name)
            measured = self.bench.measure(index, stored)
            if not index:  # before anything is written
                self._require_room(index)
            for doubt in measured.doubts:
                doubted.setdefault(doubt.kind, []).append(f"{name}: {doubt.text}")
            operator = measured.operator
            require_able(self.sampler, self.prior, operator)
            if operator.noise.exact:
                self.progress.note(
                    "operator.noise: no noise counts as a standard deviation of "
                    f"{operator.noise.level(measured.y[None]):.2g}, as exact as single precision carries"
                )
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
            draw_measurement(self.folder, name, self.bench.picture(index, measured.y), measured.truth)
        for texts in doubted.values():
            others = f" (and {len(texts) - 1} more of this kind)" if len(texts) > 1 else ""
            self.progress.warn(f"{texts[0]}{others}")

    def _recall(self, index: int) -> bool:
        """Take the measurement of an item as it is in the folder; say whether it is there."""
        name = self.bench.names[index]
        stored = self.folder.read_measurement(name, outline=True)
        return stored is not None and self.bench.recall(index, stored[1])

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
        if self.recipe.check_prior and self.missing:
            name = self.bench.names[min(self.missing)[0]]
            if self.folder.read_measurement(name) is None:
                self.read_all()
            truth = self.folder.measured(name)[1]
            for doubt in require_sound(self.prior, truth, self.device):
                self.progress.warn(f"prior: {doubt}")

    # --- samples

    def _require_room(self, index: int) -> None:
        """See that the samples of an image fit into memory, for their mean, and those of all like it on the disk.

        Raises:
            UserError: they do not.
        """
        runs, numbers = self.recipe.runs, math.prod(self.bench.shapes[index])
        require_memory(2 * runs * numbers, f"{self.recipe.name}: {runs} runs of an image")
        self.folder.require_disk(4 * runs * numbers * len(self.bench.names))

    def sample(self) -> None:
        """Draw every sample that is not in the folder yet."""
        self.folder.extend(self.resolved)
        pairs, missing = self._pairs(), self.missing
        if (
            missing
            and len(missing) < len(pairs)
            and (changes := self.folder.changed_environment(self.device))
        ):
            self.progress.warn(f"{self.recipe.name} was begun with other means: {'; '.join(changes)}")
        self.progress.plan(self.recipe.name, len(pairs), len(pairs) - len(missing))
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(self.executor.open(self._job())) if missing else None
            shared = self.executor.shared_folder and pool is not None and pool.apart
            token = stack.enter_context(self.folder.shared()) if shared else None
            work = _Sampling(self, pairs, missing, self._batch_size(pool, len(missing)), pool, token)
            if pool is not None:
                dispatch(pool, work)
        self.folder.store.finish()

    def _job(self) -> Job:
        worker = Worker(
            self.prior,
            self.bench.operators,
            self.sampler,
            self.recipe.seed,
            self.recipe.trajectory,
            self.device,
            self._watch,
        )
        trial = Trial(self._largest(), self._batch_size(None, 1)).pack()
        setup = setup_of(self.recipe, self.prior, self.device)
        return Job(BEGIN, setup, devices_of(self.device), trial, worker)

    def _watch(self, operator: Operator, y: Tensor, step: Step) -> None:
        """Show a step of a batch that is drawn in this process."""
        self.folder.require()
        for note in step.notes:
            self.progress.note(note)
        for line in step.warnings:
            self.progress.warn(line)

        @torch.no_grad()
        def residual() -> float:
            at = settled(operator, step.parameters)
            return float(at.residual(self.prior.decode(step.x0y), y).nanmean())

        self.progress.level(step.level, step.levels, step.sigma, residual)
        self.tracking.level(step.sigma, residual)

    def finish(self, perceptual: Perceptual) -> tuple[dict[str, Any], list[Row]]:
        """Judge the samples and write what is made from them (see `finish`)."""
        return finish(
            self.folder,
            self.recipe.name,
            self.bench,
            self.recipe.runs,
            perceptual,
            as_stated=self.sampler.as_stated,
            widen=self.recipe.widen,
        )

    def _pairs(self) -> list[Pair]:
        """Return all pairs in the order in which they are drawn: runs that were asked for later come later."""
        items, runs = range(len(self.bench.names)), range(self.recipe.runs)
        pairs = sorted(
            ((index, run) for index in items for run in runs), key=lambda pair: self.stage(pair[1])
        )
        if self.shard is None:
            return pairs
        size = self.recipe.batch_size
        return list(self.shard.of(pairs, 1 if size == "auto" else size))

    def _mine(self) -> list[int]:
        """Return the items of the pairs, in their order."""
        return sorted({index for index, _ in self._pairs()})

    def mine_names(self) -> list[str]:
        """Return the names of the items of which samples are drawn."""
        return [self.bench.names[index] for index in self._mine()]

    def require_whole(self) -> None:
        """See that every sample is there.

        Raises:
            UserError: some are missing; the text names the first.
        """
        if self.missing:
            index, run = min(self.missing)
            first = sample_name(self.bench.names[index], run)
            raise UserError(
                f"{len(self.missing)} of {len(self._pairs())} samples are missing, the first is {first}; the others "
                f"are there: `daps-kit run {self.folder.path / 'recipe.yaml'}` draws what is not"
            )

    def stage(self, run: int) -> int:
        """Return at which of the growing numbers of runs that were asked for a run came in."""
        return bisect_right(self.stages, run)

    @cached_property
    def missing(self) -> set[Pair]:
        """The pairs whose samples were not there when the program began."""
        return {pair for pair in self._pairs() if not self.finished(*pair, outline=self.outline)}

    def finished(self, index: int, run: int, *, outline: bool) -> bool:
        """Return whether a sample is there, of the right shape, and its trajectory where the recipe asks for one."""
        name, shape = self.bench.names[index], self.bench.shapes[index]
        trajectory = bool(self.recipe.trajectory)
        return self.folder.finished(name, run, shape, trajectory=trajectory, outline=outline)

    def _largest(self) -> Shape:
        return max(self.bench.shapes.values(), key=math.prod)

    def _batch_size(self, pool: Pool | None, samples: int) -> int:
        """Return how many samples to draw at once: where several workers share few of them, each gets two batches."""
        if self.recipe.batch_size != "auto":
            return self.recipe.batch_size
        if self.folder.batch_size:
            return self.folder.batch_size
        size = batch_of(self._largest(), self.device)
        return min(size, max(1, math.ceil(samples / (2 * pool.size)))) if pool and pool.size > 1 else size


class _Sampling(Work[_Piece]):
    """The samples that a job lacks, drawn by a pool; written by this process, or by workers that have the token."""

    def __init__(
        self,
        job: _Job,
        pairs: Sequence[Pair],
        missing: set[Pair],
        size: int,
        pool: Pool | None,
        token: str | None,
    ) -> None:
        self.job, self.pairs, self.missing, self.pool, self.token = job, pairs, missing, pool, token
        self.folder, self.progress, self.bench = job.folder, job.progress, job.bench
        self.start = 0
        self.back: deque[list[Pair]] = deque()
        self._take_size(size)

    def _take_size(self, size: int) -> None:
        self.size = size
        self.folder.write_environment(self.job.device, size, self.job.recipe.runs)

    def next(self) -> _Piece | None:
        """Return the next pairs that hold any that is missing, all of one stage and with images of one shape."""
        while self.back:
            pairs = self.back.popleft()
            size = self._size(pairs[0])
            if rest := pairs[size:]:
                self.back.appendleft(rest)
            if (piece := self._piece(pairs[:size])).fresh:
                return piece
        while self.start < len(self.pairs):
            chunk = self.pairs[self.start : self.start + self._size(self.pairs[self.start])]
            kinds = [(self.job.stage(run), self.bench.shapes[index]) for index, run in chunk]
            other = (i for i, kind in enumerate(kinds) if kind != kinds[0])
            pairs = list(chunk[: next(other, len(chunk))])
            self.start += len(pairs)
            if (piece := self._piece(pairs)).fresh:
                return piece
        return None

    def _least(self, pair: Pair) -> int:
        """Return how many samples have to be in one batch: an image's runs of one stage, if they belong together."""
        if not self.job.sampler.together:
            return 1
        stage = self.job.stage(pair[1])
        return sum(self.job.stage(run) == stage for run in range(self.job.recipe.runs))

    def _size(self, pair: Pair) -> int:
        least = self._least(pair)
        return max(1, self.size // least) * least

    def _piece(self, pairs: list[Pair]) -> _Piece:
        return _Piece(pairs, [place for place, pair in enumerate(pairs) if pair in self.missing])

    def pack(self, piece: _Piece) -> bytes:
        """Return the task: the measurements are read now, so that no more are in memory than are at work."""
        names, runs = zip(*self._named(piece), strict=True)
        ys = {name: self.folder.measured(name)[0] for name in dict.fromkeys(names)}
        if self.pool is not None and not self.pool.apart:
            self.progress.begin(len(piece.pairs))
        shape = self.bench.shapes[piece.pairs[0][0]]
        into = Into(str(self.folder.path.absolute()), self.token, tuple(piece.fresh)) if self.token else None
        return Task(names, runs, shape, ys, into).pack()

    def _named(self, piece: _Piece) -> list[tuple[str, int]]:
        return [(self.bench.names[index], run) for index, run in piece.pairs]

    def done(self, piece: _Piece, result: bytes) -> None:
        """Write what is new of a batch, or see that a worker did."""
        batch = Batch.unpack(result)
        for note in batch.notes:
            self.progress.note(note)
        for line in batch.warnings:
            self.progress.warn(line)
        named = self._named(piece)
        if self.token:
            self._see(piece)
        else:
            batch.write(self.folder, named, piece.fresh)
        for place in piece.fresh:
            self.job.tracking.sample(*named[place], batch.samples[place].failure is not None)
        self.folder.add_seconds(batch.seconds, len(piece.pairs))
        self.progress.finish(len(piece.fresh), len(piece.pairs))

    def _see(self, piece: _Piece) -> None:
        """Wait until what a worker wrote is seen here; it is read to its end when the samples are judged.

        Raises:
            UserError: it does not come.
        """
        limit = time.monotonic() + SEEN
        for index, run in (piece.pairs[place] for place in piece.fresh):
            name = self.bench.names[index]
            path = self.folder.sample(name, run)
            while not self.job.finished(index, run, outline=True):
                self.folder.require()
                if time.monotonic() > limit:
                    raise UserError(f"execution.shared_folder: a worker wrote {path}, which is not seen here")
                time.sleep(0.1)
                with contextlib.suppress(OSError):
                    os.listdir(path.parent)  # which brings a file system of a network to ask again
            self.folder.store.note(Key("sample", name, run))
            if self.job.recipe.trajectory:
                self.folder.store.note(Key("trajectory", name, run))

    def lost(self, piece: _Piece, text: str) -> None:
        """Write samples that are lost; the same command tries them again."""
        failure = Failure(0, 0, 0, 0.0, "worker", text)
        # A worker may have ended after it had written some.
        left = [
            p for p in piece.fresh if not self.token or not self.job.finished(*piece.pairs[p], outline=False)
        ]
        for place in left:
            index, run = piece.pairs[place]
            x0 = torch.full(self.bench.shapes[index], torch.nan)
            self.folder.write_sample(self.bench.names[index], run, Sample(x0, failure))
            self.job.tracking.sample(self.bench.names[index], run, True)
        names = [sample_name(self.bench.names[index], run) for index, run in piece.pairs]
        for line in told([replace(failure, sample=place) for place in left], names):
            self.progress.warn(line)
        self.progress.finish(len(piece.fresh), len(piece.pairs))

    def take_back(self, piece: _Piece) -> bool:
        """Halve the size of this batch and of those to come.

        Raises:
            UserError: it cannot be smaller, and this process is the only worker.
        """
        tried, least = len(piece.pairs), self._least(piece.pairs[0])
        if tried <= least:
            if self.pool is not None and self.pool.apart:
                return False
            what = (
                "a single sample" if least == 1 else f"the {least} runs of an image that are drawn together"
            )
            raise UserError(
                f"not enough memory for {what}; try smaller images, a smaller prior or another device"
            )
        if tried // 2 < self.size:
            self._take_size(tried // 2)
            self.progress.warn(
                f"{self.job.recipe.name}: not enough memory for {tried} samples at once, trying {self.size}"
            )
        self.back.appendleft(piece.pairs)
        return True

    def say(self, text: str) -> None:
        """Write a line."""
        self.progress.note(text)

    def look(self, at_work: list[tuple[_Piece, float]]) -> None:
        """See that the folder is still there, and show how far all are together."""
        self.folder.require()
        if self.pool is not None and self.pool.apart:
            drawn = sum(len(piece.pairs) * share for piece, share in at_work)
            self.progress.together(drawn, self.pool.states)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two tensors agree, up to the rounding of another machine."""
    if a is None or b is None:
        return a is b
    room = 1e-4 * min(1.0, float(b.abs().max()) if b.numel() else 0.0)
    return a.shape == b.shape and torch.allclose(a.to(b), b, rtol=1e-4, atol=room)
