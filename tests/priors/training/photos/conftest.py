from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import idctn

CREDITS = [
    ("a.png", "train", "Ann", "CC-BY-4.0", "https://example.org/a"),
    ("b.png", "train", "Bob", "public domain", ""),
    ("c.png", "train", "Cy", "Expat (MIT)", ""),
    ("d.png", "validation", "Di", "CC0-1.0", ""),
    ("e.png", "validation", "Ed", "BSD-2-Clause", ""),
    ("f.png", "test", "Flo", "CC-BY-4.0", ""),
]


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """A picture with the power law of photographs, uint8 [H, W, 3]."""
    f = np.hypot(np.arange(height)[:, None] / height, np.arange(width)[None] / width)
    f[0, 0] = 1
    z = np.random.default_rng(seed).standard_normal((3, height, width)) * f**-1.3
    field = idctn(z, axes=(1, 2), norm="ortho")
    field = field / field.std() * 50 + 120
    return np.moveaxis(field, 0, 2).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of several sizes, and pictures.csv beside them."""
    path = tmp_path_factory.mktemp("pictures")
    lines = ["file,split,credit,licence,source,original"]
    for seed, (file, split, credit, licence, source) in enumerate(CREDITS):
        Image.fromarray(smooth(48 + 8 * seed, 64, seed)).save(path / file)
        lines.append(f"{file},{split},{credit},{licence},{source},{file[0].upper()}.jpg")
    (path / "pictures.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
