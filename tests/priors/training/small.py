"""A small denoiser on discs in training, in this process alone: its state and what it minimises."""

from __future__ import annotations

from functools import partial

import torch

from daps_priors.trained.network import Denoiser, blank
from daps_priors.trained.wiener import GaussianDenoiser
from daps_priors.training.augment import Augmentation, centre
from daps_priors.training.batches import Batches, NoiseLevels
from daps_priors.training.objective import DenoisingError
from daps_priors.training.state import Optimisation, State
from daps_priors.training.trainer import OUTER, _blank
from tests.priors.training.discs import NETWORK, shapes

SHAPE = (3, 16, 16)
OPTIMISATION = Optimisation(images_seen=160, batch_size=16, warm_up=64)
made = partial(_blank, SHAPE, NETWORK, OPTIMISATION, "cpu")
"""Makes a state to be restored."""


def start() -> State[Denoiser]:
    """Return the state at the start: the Gaussian fitted, the U-Net fresh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = blank(SHAPE, **NETWORK)
    model.gauss = GaussianDenoiser.fit(centre(torch.from_numpy(shapes()), 16), NETWORK["components"])
    return State(model, OPTIMISATION, OUTER)


def examples(workers: int = 1) -> Batches:
    """Return batches of 16 discs."""
    images = torch.from_numpy(shapes())
    return Batches(images, 16, Augmentation(), NoiseLevels(), 16, workers, seed=5)


def objective(workers: int = 1) -> DenoisingError:
    """Return what is minimised."""
    return DenoisingError(examples(workers))
