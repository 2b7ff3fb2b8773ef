"""Networks that others trained, in the file formats of their authors: over pixels and over latents."""

from .latent_settings import LDM, Diffusers, StableDiffusion
from .pixel_settings import DDPM
from .sources import SOURCES

__all__ = ["DDPM", "LDM", "SOURCES", "Diffusers", "StableDiffusion"]
