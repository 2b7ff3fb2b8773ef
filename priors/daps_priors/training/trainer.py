"""Training of a denoiser from a recipe: start or resume, report, checkpoint, and the finished weights."""

from __future__ import annotations

import datetime
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.multiprocessing import get_context

from daps_kit.calibration import calibrate
from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.trainer import Trainer, TrainingProgress
from daps_priors.trained import tensor_file, weights
from daps_priors.trained.network import Denoiser
from daps_priors.trained.prior import weights_file

from .augment import centre
from .dataset import load_images, split
from .grow import grow
from .meeting import Gone, Leader
from .settings import TrainDenoiser
from .state import State, averaged, blank, network_arguments
from .step import Shared, share, train_step, work
from .teacher import Teacher
from .validation import measure, pictures

FORMAT = 2
FIT_IMAGES = 4096
MAX_BAD_STEPS = 20


class DenoiserTrainer(Trainer):
    """Trains a denoiser as a recipe says.

    The output folder gets `checkpoint.safetensors` (and the one before it), `log.jsonl` with one line an epoch,
    `samples-*.png` with denoised held-out images and samples of the prior, and at the end `weights.safetensors`.
    """

    def __init__(self, settings: TrainDenoiser) -> None:
        self.settings = settings
        self.checkpoint = settings.output / "checkpoint.safetensors"
        self.weights = settings.output / "weights.safetensors"
        self.log = settings.output / "log.jsonl"

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        """Train to the end, from the checkpoint in the output folder if there is one; return the file of weights.

        Raises:
            UserError: images, checkpoint or output folder cannot be used, a worker process died, or the loss diverged.
                The last checkpoint stays as it is.
        """
        settings = self.settings
        train, held_out = self._images()
        validation = centre(held_out, settings.frame)
        state = self._resume(train) or self._start(train)
        self._trim_log(state.step * settings.batch_size)
        with _single_thread(settings.workers > 1), self._workers(state, train) as (shared, meeting):
            self._train(state, shared, meeting, validation, progress or (lambda _: None))
        return self._export(state.ema, validation, state.step * settings.batch_size)

    def export(self, path: Path | None = None) -> Path:
        """Write the weights of the last checkpoint of a run that is going on or was stopped; return the file.

        Raises:
            UserError: there is no checkpoint that fits the recipe.
        """
        train, held_out = self._images()
        if not self.checkpoint.exists():
            raise UserError(f"no checkpoint at {self.checkpoint}: train first")
        tensors, found = self._read(self.checkpoint, train)
        model = blank(tuple(found["shape"]), self.settings, len(tensors["model.gauss.variances"]))
        model.load_state_dict(averaged(tensors))
        return self._export(model, centre(held_out, self.settings.frame), found["images_seen"], path)

    def _images(self) -> tuple[Tensor, Tensor]:
        settings = self.settings
        images = torch.from_numpy(load_images(settings.images, settings.frame + 2 * settings.margin))
        train, held_out = split(len(images), settings.validation, settings.seed)
        return images[torch.from_numpy(train)], images[torch.from_numpy(held_out)]

    def _start(self, images: Tensor) -> State:
        settings = self.settings
        shape = (images.shape[3], settings.frame, settings.frame)
        frames = centre(images[:: math.ceil(len(images) / FIT_IMAGES)], settings.frame)
        if settings.augment.flip:
            frames = torch.cat((frames, frames.flip(-1)))
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(settings.seed)
            model = Denoiser(shape, **network_arguments(settings))
        if settings.start is None:
            model.gauss = type(model.gauss).fit(frames, settings.network.components)
        else:
            _grow(settings.start, model)
        return State(model, settings)

    def _resume(self, images: Tensor) -> State | None:
        """Return the state of the last whole checkpoint; a damaged one is put aside if the one before is whole."""
        older = tensor_file.previous(self.checkpoint)
        if not self.checkpoint.exists():
            return self._restore(older, images) if older.exists() else None
        try:
            return self._restore(self.checkpoint, images)
        except tensor_file.DamagedFile:
            if not older.exists():
                raise
            state = self._restore(older, images)
            self.checkpoint.replace(self.checkpoint.with_name(f"{self.checkpoint.name}.damaged"))
            return state

    def _restore(self, path: Path, images: Tensor) -> State:
        tensors, found = self._read(path, images)
        model = blank(tuple(found["shape"]), self.settings, len(tensors["model.gauss.variances"]))
        state = State(model, self.settings)
        state.restore(tensors, found["step"])
        return state

    def _read(self, path: Path, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and description of a checkpoint that belongs to this recipe."""
        tensors, found = tensor_file.read(path)
        if found.get("format") != FORMAT:
            raise UserError(
                f"{path} has format {found.get('format')}; this version of daps-kit reads {FORMAT}"
            )
        for what, ours in self._identity(images).items():
            if found.get(what) != ours:
                raise UserError(
                    f"{path} belongs to a run with other {what} ({found.get(what)}, now {ours}): change it back in the "
                    "recipe, or choose another output folder"
                )
        return tensors, found

    def _identity(self, images: Tensor) -> dict[str, Any]:
        """Return what may not change between a run and its continuation."""
        settings = self.settings
        return {
            "shape": [images.shape[3], settings.frame, settings.frame],
            "network": settings.network.model_dump(mode="json"),
            "batch_size": settings.batch_size,
            "images": f"{len(images)} images, crc {zlib.crc32(images.numpy().tobytes()):08x}",
        }

    @contextmanager
    def _workers(self, state: State, images: Tensor) -> Iterator[tuple[Shared, Leader | None]]:
        """Run the other worker processes beside this one."""
        settings = self.settings
        shared = Shared.create(images, sum(p.numel() for p in state.parameters), settings.workers)
        if settings.workers == 1:
            yield shared, None
            return
        context = get_context("spawn")
        start = {k: share(v.detach().clone()) for k, v in state.tensors().items()}
        pipes, workers = [], []
        for rank in range(1, settings.workers):
            ours, theirs = context.Pipe()
            arguments = (settings, shared, start, state.step, rank, theirs)
            worker = context.Process(target=work, args=arguments, daemon=True)
            worker.start()
            theirs.close()
            pipes.append(ours)
            workers.append(worker)
        try:
            yield shared, Leader(pipes)
        except Gone:
            for worker in workers:
                worker.join(1)
            codes = ", ".join(str(worker.exitcode) for worker in workers if worker.exitcode)
            raise UserError(
                f"a worker process ended early (exit code {codes}; -9: killed, often for want of memory); run the same "
                f"command again to go on from {self.checkpoint}"
            ) from None
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
            for pipe in pipes:
                pipe.close()

    def _train(
        self,
        state: State,
        shared: Shared,
        meeting: Leader | None,
        validation: Tensor,
        progress: Callable[[TrainingProgress], None],
    ) -> None:
        settings = self.settings
        epoch = settings.epoch or len(shared.images)
        stride = math.ceil(len(shared.images) / len(validation))
        trained = centre(shared.images[::stride], settings.frame)
        teacher = Teacher.of(settings, state.model.shape)
        first, begun = state.step, time.monotonic()
        saved = told = begun
        losses: list[float] = []
        while state.step < settings.steps:
            before = state.step * settings.batch_size
            losses.append(train_step(state, shared, 0, settings, meeting, teacher))
            state.average()
            if len(losses) >= MAX_BAD_STEPS and not any(map(math.isfinite, losses[-MAX_BAD_STEPS:])):
                raise UserError(
                    f"the loss was not a finite number {MAX_BAD_STEPS} times in a row: use a smaller learning_rate; "
                    f"{self.checkpoint} is as it was"
                )
            now, done = time.monotonic(), state.step == settings.steps
            seen = state.step * settings.batch_size
            ended = done or seen // epoch > before // epoch
            if ended or now - told > 1:
                told = now
                found = measure(state.ema, validation, trained) if ended else None
                rate = (state.step - first) * settings.batch_size / (now - begun)
                finite = [loss for loss in losses if math.isfinite(loss)]
                report = TrainingProgress(
                    images=seen,
                    of=settings.images_seen,
                    loss=sum(finite) / max(1, len(finite)),
                    images_per_second=rate,
                    learning_rate=float(state.optimiser.param_groups[0]["lr"]),
                    measured=found,
                )
                if ended:
                    self._record(report, state, validation)
                    losses = []
                progress(report)
            if done or now - saved > settings.checkpoint_seconds:
                self._save(state, shared.images)
                saved = time.monotonic()

    def _save(self, state: State, images: Tensor) -> None:
        description = self._identity(images) | {
            "format": FORMAT,
            "step": state.step,
            "images_seen": state.step * self.settings.batch_size,
            "settings": self.settings.model_dump(mode="json", exclude={"images", "output"}),
        }
        tensor_file.write(self.checkpoint, state.tensors(), description, keep_previous=True)

    def _record(self, report: TrainingProgress, state: State, validation: Tensor) -> None:
        write_atomic(
            self.settings.output / f"samples-{report.images:09d}.png", pictures(state.ema, validation)
        )
        line = {k: v for k, v in vars(report).items() if k != "measured"} | (report.measured or {})
        try:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self.log}: {error.strerror or error}; the checkpoint is as it was"
            ) from error

    def _trim_log(self, seen: int) -> None:
        """Drop the lines of epochs that will be trained again."""
        if self.log.exists():
            lines = [
                line for line in self.log.read_text(encoding="utf-8").splitlines() if _images_of(line) <= seen
            ]
            write_atomic(self.log, "".join(f"{line}\n" for line in lines).encode())

    def _export(self, model: Denoiser, validation: Tensor, seen: int, path: Path | None = None) -> Path:
        settings = self.settings
        path = path or self.weights
        stored = blank(model.shape, settings, len(model.gauss.variances))
        stored.load_state_dict({k: v.float() for k, v in weights.half(model).items()})
        description = {
            "card": settings.card.model_dump(mode="json"),
            "training": {
                "images_seen": seen,
                "settings": settings.model_dump(
                    mode="json", exclude={"images", "output", "card", "start", "teacher"}
                ),
                "start": _name(settings.start),
                "teacher": _name(settings.teacher),
                "torch": torch.__version__,
                "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            },
        }
        calibration = calibrate(stored, validation.to(settings.device))
        weights.save(path, model, settings.network.model_dump(mode="json"), calibration, description)
        return path


def _grow(start: Path | Literal["embedded"], model: Denoiser) -> None:
    path = weights_file(start)
    try:
        grow(weights.load(path)[0], model)
    except ValueError as error:
        raise UserError(f"training cannot start from {path}: {error}") from None


def _name(weights: Path | Literal["embedded"] | None) -> str | None:
    return weights.name if isinstance(weights, Path) else weights


def _images_of(line: str) -> float:
    try:
        return float(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed while it wrote
        return math.inf


@contextmanager
def _single_thread(wanted: bool) -> Iterator[None]:
    """Compute with one thread, since every worker has its own; the number of threads before is restored."""
    threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
