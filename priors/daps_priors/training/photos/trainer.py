"""Training of a prior of photographs: start or resume, measure, and the finished weights."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daps_kit import tensor_file
from daps_kit.calibration import errors
from daps_kit.errors import UserError
from daps_kit.fit_head import SpectrumFit, fit_spectrum, measured
from daps_kit.trainer import Trainer, TrainingProgress
from daps_kit.training import Pace, TrainingFolder, train
from daps_priors.photos import weights
from daps_priors.photos.calibration import calibrate_by_frequency
from daps_priors.photos.denoiser import PhotoDenoiser
from daps_priors.photos.linear import LinearDenoiser
from daps_priors.photos.prior import PhotoPrior

from ..objective import Examples
from ..state import Optimisation, State
from ..step import NetworkLearner
from .patches import Patches, PatchExamples
from .pictures import Pictures, PictureSet

FORMAT = 1
OUTER = ("unet.stem.", "unet.out.", "unet.embed.")
"""Parameters of the first and last layers of `PhotoDenoiser`, and of those that are told sigma."""
FIT_PATCHES, FIT_SIDE = 300, 256
SIGMAS = (0.05, 0.1, 0.2, 0.4, 1.0, 3.0)


@dataclass(frozen=True)
class PhotoError:
    """The squared error in units of the linear denoiser's (see `daps_priors.training.objective`).

    Attributes:
        examples: of every step.
        unet: the U-Net of the model, as it is or compiled.
        device: where to compute.
        bfloat16: whether convolutions are computed in bfloat16; the linear denoiser never is.
    """

    examples: Examples
    unet: Callable[[Tensor, Tensor], Tensor]
    device: str
    bfloat16: bool

    def loss(self, model: nn.Module, step: int, rank: int) -> Tensor:
        """Return the mean loss of a step."""
        assert isinstance(model, PhotoDenoiser)
        x0, sigma, x = (part.to(self.device) for part in self.examples.draw(step, rank))
        with torch.no_grad():
            linear, features, error = model.prepared(x, sigma)
        features = features.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16):
            correction = self.unet(features, sigma.log())
        return (correction.float() - (x0 - linear) / error).square().mean()


@dataclass(frozen=True, kw_only=True)
class PhotoTrainer(Trainer):
    """Trains a `PhotoDenoiser` on pictures.

    The output folder gets `checkpoint.safetensors` (and the one before it), `log.jsonl` with one line an epoch, and at
    the end `weights.safetensors`.

    Attributes:
        output: the folder.
        pictures: to train on, and held out.
        patches: how examples are drawn.
        network: arguments of `PhotoDenoiser` but its channels and range of sigma.
        optimisation: how the weights are moved; counted in patches of 64 x 64.
        start: weights of the same network to start from, if any.
        seen_before: patches that those have seen.
        device: where to compute.
        bfloat16: whether convolutions are computed in bfloat16.
        compile: whether the network is compiled.
        epoch: patches between two reports.
        checkpoint_seconds: seconds between two checkpoints.
        head: steps whose patches a head is fitted to in the end; 0: none.
        card, settings: written into the file of weights.
    """

    output: Path
    pictures: PictureSet
    patches: Patches
    network: Mapping[str, Any]
    optimisation: Optimisation
    start: Path | None
    seen_before: int
    device: str
    bfloat16: bool
    compile: bool
    epoch: int
    checkpoint_seconds: float
    head: int
    card: Mapping[str, str]
    settings: Mapping[str, Any]

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        """Train to the end, from the checkpoint in the output folder if there is one; return the file of weights.

        Raises:
            UserError: pictures, checkpoint or output folder cannot be used, or the loss diverged. The last checkpoint
                stays as it is.
        """
        optimisation = self.optimisation
        pictures = self.pictures.load(min(self.patches.sizes))
        examples = PatchExamples(pictures.train, self.patches)
        identity = {
            "channels": self.pictures.channels,
            "network": dict(self.network),
            "batch_size": optimisation.batch_size,
            "pictures": pictures.identity,
        }
        folder = TrainingFolder(self.output, FORMAT, identity)
        found = folder.resume()
        model = self._model() if found else self._first(examples)
        model = model.to(self.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        state = State(model, optimisation, OUTER)
        if found:
            state.restore(*found)
        unet = torch.compile(model.unet, dynamic=False) if self.compile else model.unet
        objective = PhotoError(examples, unet, self.device, self.bfloat16)
        pace = Pace(optimisation.images_seen, optimisation.batch_size, self.epoch, self.checkpoint_seconds)
        learner = PhotoLearner(state, objective, pictures)
        train(learner, folder, pace, progress or (lambda _: None))
        self._write(folder.weights, state, pictures, examples)
        return folder.weights

    def _model(self) -> PhotoDenoiser:
        levels = self.patches.levels
        limits = (levels.minimum, levels.maximum)
        return weights.blank(self.pictures.channels, **self.network, sigma_range=limits)

    def _first(self, examples: PatchExamples) -> PhotoDenoiser:
        """Return a denoiser at the start."""
        if self.start is None:
            with torch.random.fork_rng(devices=[]):
                torch.random.manual_seed(self.patches.seed)
                model = self._model()
            model.linear = LinearDenoiser.fit(examples.crops(FIT_PATCHES, FIT_SIDE))
            return model
        tensors, _ = tensor_file.read_plain(self.start)
        model = self._model()
        try:
            model.load_state_dict({k: v for k, v in tensors.items() if k.startswith(("unet.", "linear."))})
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"training cannot start from {self.start}: {reason}") from None
        return model

    def _write(
        self,
        path: Path,
        state: State[PhotoDenoiser],
        pictures: Pictures,
        examples: PatchExamples,
    ) -> None:
        """Write the averaged weights, with the errors that they have as they are stored."""
        stored = self._model().to(self.device)
        stored.load_state_dict({k: v.float() for k, v in weights.half(state.ema).items()})
        stored.eval().requires_grad_(False)
        description = {
            "card": {**self.card, "credits": "\n".join(pictures.credits)},
            "training": {
                "images_seen": self.seen_before + state.step * self.optimisation.batch_size,
                "pictures": pictures.count,
                "psnr": psnrs(stored, pictures),
                "settings": dict(self.settings),
                "torch": torch.__version__,
                "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            },
        }
        validation = pictures.validation.to(self.device)
        found = calibrate_by_frequency(stored, stored.linear, validation)
        if self.head:
            prior = PhotoPrior(stored, found, description)
            steps = range(state.step, state.step + self.head)
            patches = (examples.draw(step, 0)[0].to(self.device) for step in steps)
            head = fit_spectrum(prior, patches, SpectrumFit(seed=self.patches.seed))
            found = replace(found, local=measured(prior, head, validation, chunk=2))
        weights.save(path, stored, dict(self.network), found, description)


class PhotoLearner(NetworkLearner[PhotoDenoiser]):
    """A denoiser in training, with the pictures that it is measured on."""

    def __init__(self, state: State[PhotoDenoiser], objective: PhotoError, pictures: Pictures) -> None:
        super().__init__(state, objective, lambda values: values)
        self.pictures = pictures

    def measure(self) -> dict[str, dict[str, float]]:
        """Return `psnrs` of the averaged weights."""
        return psnrs(self.state.ema, self.pictures)

    def record(self, report: TrainingProgress, folder: TrainingFolder) -> None:
        """Keep a line of the log."""
        folder.record({k: v for k, v in vars(report).items() if k != "measured"} | (report.measured or {}))


def psnrs(model: PhotoDenoiser, pictures: Pictures) -> dict[str, dict[str, float]]:
    """Return rows of the PSNR by denoising in decibels, by sigma: held-out and trained pictures, linearly as well.

    Means over pictures of 10 log10(4 / mean squared error): the peak is 2, for pictures in [-1, 1]; nothing is clipped.
    """
    device = next(model.parameters()).device

    def linear(x: Tensor, sigma: Tensor) -> Tensor:
        found: Tensor = model.linear(x, sigma.expand(len(x)))[0]
        return found

    def row(denoise: Callable[[Tensor, Tensor], Tensor], images: Tensor) -> dict[str, float]:
        return {str(sigma): _psnr(denoise, images.to(device), sigma) for sigma in SIGMAS}

    return {
        "psnr": row(model, pictures.validation),
        "linear_psnr": row(linear, pictures.validation),
        "trained_psnr": row(model, pictures.trained),
        "trained_linear_psnr": row(linear, pictures.trained),
    }


def _psnr(denoise: Callable[[Tensor, Tensor], Tensor], images: Tensor, sigma: float) -> float:
    mse = errors(denoise, images, sigma, seed=5, chunk=2).double().square().mean((1, 2, 3))
    return float((10 * (4 / mse).log10()).mean())
