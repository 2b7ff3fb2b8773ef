"""A measurement in files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from daps_kit.arrays import read_array
from daps_kit.errors import UserError

Y = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 16, 16)
MADE = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 4, 4)


def written(folder: Path, kind: str, array: torch.Tensor) -> Path:
    path = folder / f"mine.{kind}"
    if kind == "npy":
        np.save(path, array.numpy())
    elif kind == "npz":
        np.savez(path, other=np.zeros(2), y=array.numpy())
    elif kind == "pt":
        torch.save(array, path)
    elif kind == "pth":
        torch.save({"y": array, "other": torch.zeros(1)}, path)
    elif kind == "safetensors":
        save_file({"y": array.contiguous()}, path)
    return path


def line(path: Path) -> str:
    """Return the one line that a file ends in."""
    with pytest.raises(UserError) as caught:
        read_array(path)
    text = str(caught.value)
    assert path.name[:40] in text
    assert text.isprintable()
    assert len(text) < 700
    return text
