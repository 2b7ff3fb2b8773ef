"""Priors of one size over larger pictures, by windows; and over smaller ones, which are the middle of larger."""

from .settings import Tiled

__all__ = ["Tiled"]
