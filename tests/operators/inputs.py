"""Images and settings that tests of operators share."""

from __future__ import annotations

import numpy as np
import torch

from daps_kit.noise import GaussianNoise

NOISE = GaussianNoise(0.05)


def image(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


CPU = torch.device("cpu")


def build(settings, shape=(3, 32, 48), seed=0):
    return settings.build(shape=shape, seed=seed, device=CPU)
