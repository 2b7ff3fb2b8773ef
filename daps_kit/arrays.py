"""Read a user's arrays: numbers in a file become a float32 tensor, and nothing in the file is ever run.

.npy, .npz          arrays (never pickled objects)
.pt, .pth           tensors only
.safetensors        tensors
images              scaled to [-1, 1]
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from daps_kit.errors import UserError, did_you_mean
from daps_kit.images import load_image

__all__ = ["read_array"]


def read_array(path: Path, key: str | None = None, channels: int | None = None) -> Tensor:
    """Return the numbers of a file as a float32 tensor.

    Args:
        path: .npy, .npz, .pt, .pth, .safetensors, or an image, which is scaled to [-1, 1].
        key: which array of a file that holds several; without it the only one, or the one called `y`.
        channels: of an image; its own where not given.

    Raises:
        UserError: the file is damaged, holds something else than real numbers, or does not have the key.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".npy", ".npz"):
            with path.open("rb") as file:
                found = np.load(file, allow_pickle=False)
                content: Any = dict(found) if isinstance(found, np.lib.npyio.NpzFile) else found
        elif suffix in (".pt", ".pth"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about files that are refused anyway
                content = torch.load(path, weights_only=True, map_location="cpu")
        elif suffix == ".safetensors":
            content = load_file(path)
        else:
            return load_image(path, channels)
    except pickle.UnpicklingError as error:
        raise UserError(f"cannot read {path}: only tensors are read, it holds other objects") from error
    except (OSError, ValueError, EOFError, RuntimeError, SafetensorError, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read {path}: {str(error).splitlines()[0] if str(error) else 'it is damaged'}"
        ) from error
    if isinstance(content, Mapping):
        content = _choose(content, key, path)
    if not isinstance(content, Tensor | np.ndarray) or (
        isinstance(content, np.ndarray) and content.dtype.kind not in "biuf"
    ):
        raise UserError(
            f"{path}: expected an array of real numbers, got {getattr(content, 'dtype', type(content).__name__)}"
        )
    tensor = torch.as_tensor(np.ascontiguousarray(content) if isinstance(content, np.ndarray) else content)
    if tensor.is_complex():
        raise UserError(
            f"{path}: expected real numbers, got {tensor.dtype}; give magnitudes, or real and imaginary parts"
        )
    return tensor.detach().to(torch.float32)


def _choose(content: Mapping[str, Any], key: str | None, path: Path) -> Any:
    names = list(map(str, content))
    if key is None:
        if len(content) != 1 and "y" not in content:
            raise UserError(f"{path}: holds {', '.join(names) or 'nothing'}; say which as data.key")
        return content["y"] if "y" in content else next(iter(content.values()))
    if key not in content:
        raise UserError(f"{path}: no array '{key}', it holds {', '.join(names)}{did_you_mean(key, names)}")
    return content[key]
