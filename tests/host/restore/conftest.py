"""A working folder with a small noisy photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.host.conftest import photograph


def noisy(seed: int, size: tuple[int, int], channels: int = 3, sigma: float = 0.1) -> Image.Image:
    """Return a smooth picture with noise of a standard deviation, in [-1, 1]."""
    smooth = np.asarray(photograph(seed, size, channels)).astype(float)
    noise = sigma * 127.5 * np.random.default_rng(seed).standard_normal(smooth.shape)
    return Image.fromarray((0.6 * smooth + 51 + noise).round().clip(0, 255).astype(np.uint8))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photo.png, 24 x 32 of noise 0.1, and mask.png, of which a stripe is white."""
    monkeypatch.chdir(tmp_path)
    noisy(0, (24, 32)).save("photo.png")
    mask = np.zeros((24, 32), np.uint8)
    mask[10:13, 4:] = 255
    Image.fromarray(mask).save("mask.png")
    return tmp_path
