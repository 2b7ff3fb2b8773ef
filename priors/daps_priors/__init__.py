"""The priors that ship with daps-kit: how the host finds them, their trainers and their published weights.

exact       priors whose denoiser is known in closed form
published   networks that others trained, in the file formats of their authors
trained     the denoiser that `daps-kit train` makes, and the one of faces that ships with the package
photos      the denoiser of photographs of any size that ships with the package
tiled       any of them over larger pictures, by windows
training    how denoisers are made

Importing this module does not import torch; each `build` imports what it needs, and hands it plain values.
"""

from __future__ import annotations

from collections.abc import Iterable

from daps_kit.hooks import hookimpl
from daps_kit.settings import PriorSettings, TrainerSettings
from daps_kit.sources import Source

from .exact import Gaussian, Mixture
from .photos.settings import shipped
from .published import DDPM, LDM, SOURCES, Diffusers, StableDiffusion
from .settings import Trained
from .tiled import Tiled
from .trained import Embedded
from .training import TrainDenoiser
from .training.photos.settings import TrainPhotos

__all__ = [
    "DDPM",
    "LDM",
    "Diffusers",
    "Embedded",
    "Gaussian",
    "Mixture",
    "StableDiffusion",
    "Tiled",
    "TrainDenoiser",
    "TrainPhotos",
    "Trained",
]


@hookimpl
def daps_priors() -> Iterable[type[PriorSettings]]:
    """Return the settings of the priors of this package."""
    return [Gaussian, Mixture, Trained, Embedded, *shipped(), Tiled, DDPM, LDM, StableDiffusion, Diffusers]


@hookimpl
def daps_trainers() -> Iterable[type[TrainerSettings]]:
    """Return the settings of the trainers of this package."""
    return [TrainDenoiser, TrainPhotos]


@hookimpl
def daps_checkpoints() -> Iterable[Source]:
    """Return where published weights of these priors can be fetched."""
    return SOURCES
