"""A measurement in files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

Y = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 16, 16)


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
