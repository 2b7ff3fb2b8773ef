"""The denoiser that `daps-kit train` makes: its network, its file of weights, and the prior that it is."""

from .settings import Embedded

__all__ = ["Embedded"]
