"""Noise: how a measurement scatters around the clean one. What a noise model must do, and the models that ship."""

from .gaussian import GaussianNoise
from .heavy_tails import LaplaceNoise, StudentNoise
from .model import Likelihood, Noise, Site
from .poisson import PoissonNoise
from .poisson_gaussian import PoissonGaussianNoise
from .recorded import RecordedNoise

__all__ = [
    "GaussianNoise",
    "LaplaceNoise",
    "Likelihood",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "RecordedNoise",
    "Site",
    "StudentNoise",
]
