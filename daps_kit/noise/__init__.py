"""Noise: how a measurement scatters around the clean one. What a noise model must do, and the models that ship."""

from .gaussian import GaussianNoise
from .model import Likelihood, Noise, Site
from .poisson import PoissonNoise

__all__ = ["GaussianNoise", "Likelihood", "Noise", "PoissonNoise", "Site"]
