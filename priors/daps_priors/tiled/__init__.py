"""Priors of one size over larger pictures, by windows."""

from .settings import Tiled

__all__ = ["Tiled"]
