"""Tensors and their description in one .safetensors file, which is whole whenever the program is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.files import write_atomic

KEY = "daps-kit"


class DamagedFile(UserError):
    """The file is not whole, or not one of ours."""


def write(
    path: Path, tensors: dict[str, Tensor], description: dict[str, Any], *, keep_previous: bool = False
) -> None:
    """Write tensors and a JSON description. With `keep_previous` the file before stays as `NAME.previous`.

    Raises:
        UserError: the disk refuses (full, read-only); what was at `path` before is untouched.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    data = save(contiguous, metadata={KEY: json.dumps(description)})
    if not (keep_previous and path.exists()):
        write_atomic(path, data)
        return
    # The new file is whole on the disk before the old one is moved: at every moment one of the two can be read.
    new = path.with_name(f"{path.name}.new")
    write_atomic(new, data)
    path.replace(previous(path))
    new.replace(path)


def previous(path: Path) -> Path:
    """Return where `write` keeps the file before the last."""
    return path.with_name(f"{path.name}.previous")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and description of a file that `write` made.

    Raises:
        UserError: there is no such file.
        DamagedFile: it is damaged, or was written by something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except (OSError, SafetensorError) as error:
        raise DamagedFile(f"{path} is not a whole .safetensors file: {error}") from error
    try:
        description = json.loads(metadata[KEY])
    except (KeyError, ValueError) as error:
        raise DamagedFile(
            f"{path} was not written by daps-kit: no description `{KEY}` in its metadata"
        ) from error
    return tensors, description
