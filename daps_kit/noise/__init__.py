"""Noise: how a measurement scatters around the clean one. What a noise model must do, and the models that ship."""

from .gaussian import GaussianNoise
from .model import Noise, Perturbed, Quadratic
from .poisson import PoissonNoise

__all__ = ["GaussianNoise", "Noise", "Perturbed", "PoissonNoise", "Quadratic"]
