"""Priors whose denoiser is known in closed form, and with it their posteriors: ground truth for samplers."""

from .settings import Gaussian, Mixture

__all__ = ["Gaussian", "Mixture"]
