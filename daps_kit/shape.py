"""The shape of an image, in a file of its own: settings need it without torch, contracts without settings."""

__all__ = ["Shape"]

Shape = tuple[int, int, int]
"""Channels, height and width, (C, H, W)."""
