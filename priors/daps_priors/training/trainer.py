"""Training of a denoiser: start or resume, measure, and the finished weights."""

from __future__ import annotations

import datetime
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from daps_kit.calibration import calibrate
from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.settings import Shape
from daps_kit.trainer import Trainer, TrainingProgress, launched
from daps_kit.training import Pace, TrainingFolder, train
from daps_priors.trained import network, weights
from daps_priors.trained.network import Denoiser, channels_last
from daps_priors.trained.prior import weights_file

from .augment import Augmentation, centre
from .batches import Batches, NoiseLevels
from .dataset import ImageSet
from .grow import grow
from .objective import DenoisingError, Objective
from .peers import Peers, joined
from .state import Optimisation, State
from .step import Mean, NetworkLearner, take_step
from .teacher import Teacher
from .validation import pictures, squared_errors
from .workers import workers

FORMAT = 2
FIT_IMAGES = 4096
OUTER = ("unet.stem.", "unet.out.", "unet.maps.", "unet.embed.")
"""Parameters of the first and last layers of `Denoiser`, and of those that are told sigma and the place."""

StartingWeights = Path | Literal["embedded"]


@dataclass(frozen=True, kw_only=True)
class DenoiserTrainer(Trainer):
    """Trains a `Denoiser` on images.

    The output folder gets `checkpoint.safetensors` (and the one before it), `log.jsonl` with one line an epoch,
    `samples-*.png` with denoised held-out images and samples of the prior, and at the end `weights.safetensors`.

    Attributes:
        output: the folder.
        images: to train on, and held out; of `frame` and margins.
        frame: side of the images of the prior, pixels.
        network: arguments of `Denoiser` but its shape and range of sigma.
        levels, changes, optimisation: how examples are drawn, and the weights moved.
        start, teacher: finished weights to start from and to learn from, if any.
        workers: processes that share a step.
        device: where to compute; with several workers the CPU.
        bfloat16: whether products are computed in bfloat16.
        seed: of all that is drawn.
        epoch: images between two reports; None for once over the training images.
        checkpoint_seconds: seconds between two checkpoints.
        card, settings: written into the file of weights.

    Under torchrun its processes share every step as workers do, each on a GPU of its own where the device is `cuda`.
    """

    shared: ClassVar[bool] = True

    output: Path
    images: ImageSet
    frame: int
    network: Mapping[str, Any]
    levels: NoiseLevels
    changes: Augmentation
    optimisation: Optimisation
    start: StartingWeights | None
    teacher: StartingWeights | None
    workers: int
    device: str
    bfloat16: bool
    seed: int
    epoch: int | None
    checkpoint_seconds: float
    card: Mapping[str, str]
    settings: Mapping[str, Any]

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        """Train to the end, from the checkpoint in the output folder if there is one; return the file of weights.

        Raises:
            UserError: images, checkpoint or output folder cannot be used, a worker process died, or the loss diverged.
                The last checkpoint stays as it is.
        """
        place = launched()
        if place is None:
            return self._run(progress)
        if self.workers > 1:
            raise UserError("workers are the processes of one machine: set workers to 1 under torchrun")
        if self.optimisation.batch_size % place.count:
            raise UserError(
                f"batch_size ({self.optimisation.batch_size}) must be divisible by the {place.count} processes of "
                "torchrun"
            )
        device = f"cuda:{place.local}" if self.device == "cuda" else self.device
        with joined(place, device) as peers:
            return replace(self, device=device)._run(progress, peers)

    def _run(self, progress: Callable[[TrainingProgress], None] | None, peers: Peers | None = None) -> Path:
        """Train alone, or with the processes of torchrun, of which the first alone writes."""
        optimisation = self.optimisation
        rank, count = (peers.place.rank, peers.place.count) if peers else (0, self.workers)
        images, held_out = self.images.load()
        validation = centre(held_out, self.frame)
        shape = (images.shape[3], self.frame, self.frame)
        identity = {
            "shape": list(shape),
            "network": dict(self.network),
            "batch_size": optimisation.batch_size,
            "images": f"{len(images)} images, crc {zlib.crc32(images.numpy().tobytes()):08x}",
        }
        folder = TrainingFolder(self.output, FORMAT, identity)
        if peers and rank:
            tensors, step = peers.share(None)
            state = self._blank(shape, len(tensors["model.gauss.variances"]))()
            state.restore(tensors, step)
        elif found := folder.resume():
            tensors, step = found
            blank = self._blank(shape, len(tensors["model.gauss.variances"]))
            state = blank()
            state.restore(tensors, step)
        else:
            model = self._first(images, shape)
            blank = self._blank(shape, len(model.gauss.variances))
            state = State(channels_last(model.to(self.device)), optimisation, OUTER)
        teacher = None
        if self.teacher is not None:
            path = weights_file(self.teacher)
            teacher = Teacher.load(path, shape, mirror=self.changes.flip, device=self.device)
        batches = Batches(
            images, self.frame, self.changes, self.levels, optimisation.batch_size, count, self.seed
        )
        objective = DenoisingError(batches, teacher, self.device, self.bfloat16)
        if peers and rank:
            while state.step < optimisation.steps:
                take_step(state, objective, rank, peers.mean)
            return folder.weights
        pace = Pace(
            optimisation.images_seen,
            optimisation.batch_size,
            self.epoch or len(images),
            self.checkpoint_seconds,
        )
        seen = images[:: math.ceil(len(images) / len(validation))]
        if peers:
            peers.share({name: tensor.detach() for name, tensor in state.tensors().items()}, state.step)
        with workers(self.workers, state, blank, objective) as mean:
            mean = peers.mean if peers else mean
            learner = DenoiserLearner(state, objective, mean, validation, centre(seen, self.frame))
            train(learner, folder, pace, progress or (lambda _: None))
        self._write(folder.weights, state, blank().model, validation)
        return folder.weights

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of `Denoiser` but its shape."""
        return {**self.network, "sigma_range": (self.levels.minimum, self.levels.maximum)}

    def _blank(self, shape: Shape, components: int) -> Callable[[], State[Denoiser]]:
        """Return what makes a state to be restored; a Gaussian of few images has fewer components than asked for."""
        arguments = self._arguments() | {"components": components}
        return partial(_blank, shape, arguments, self.optimisation, self.device)

    def _first(self, images: Tensor, shape: Shape) -> Denoiser:
        """Return a denoiser at the start."""
        frames = centre(images[:: math.ceil(len(images) / FIT_IMAGES)], self.frame)
        if self.changes.flip:
            frames = torch.cat((frames, frames.flip(-1)))
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(self.seed)
            model = Denoiser(shape, **self._arguments())
        if self.start is None:
            model.gauss = type(model.gauss).fit(frames, self.network["components"])
            return model
        path = weights_file(self.start)
        try:
            grow(weights.load(path)[0], model)
        except ValueError as error:
            raise UserError(f"training cannot start from {path}: {error}") from None
        return model

    def _write(self, path: Path, state: State[Denoiser], stored: Denoiser, validation: Tensor) -> None:
        """Write the averaged weights, with the errors that they have as they are stored."""
        stored.load_state_dict({k: v.float() for k, v in weights.half(state.ema).items()})
        description = {
            "card": dict(self.card),
            "training": {
                "images_seen": state.step * self.optimisation.batch_size,
                "settings": dict(self.settings),
                "start": _name(self.start),
                "teacher": _name(self.teacher),
                "torch": torch.__version__,
                "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            },
        }
        calibration = calibrate(stored, validation.to(self.device))
        weights.save(path, stored, dict(self.network), calibration, description)


class DenoiserLearner(NetworkLearner[Denoiser]):
    """A denoiser in training, with the images that it is measured on: held out, and trained on, [N, C, H, W]."""

    def __init__(
        self, state: State[Denoiser], objective: Objective, mean: Mean, validation: Tensor, trained: Tensor
    ) -> None:
        super().__init__(state, objective, mean)
        self.validation, self.trained = validation, trained

    def measure(self) -> dict[str, dict[str, float]]:
        """Return squared errors by noise level (see `squared_errors`)."""
        return squared_errors(self.state.ema, self.validation, self.trained)

    def record(self, report: TrainingProgress, folder: TrainingFolder) -> None:
        """Keep pictures and a line of the log."""
        write_atomic(
            folder.path / f"samples-{report.images:09d}.png", pictures(self.state.ema, self.validation)
        )
        folder.record({k: v for k, v in vars(report).items() if k != "measured"} | (report.measured or {}))


def _blank(
    shape: Shape, arguments: Mapping[str, Any], optimisation: Optimisation, device: str
) -> State[Denoiser]:
    """Return a state to be restored."""
    model = network.blank(shape, **arguments).to(device)
    return State(channels_last(model), optimisation, OUTER)


def _name(weights: StartingWeights | None) -> str | None:
    return weights.name if isinstance(weights, Path) else weights
