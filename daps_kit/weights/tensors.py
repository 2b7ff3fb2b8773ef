"""Read checkpoints that others made: tensors only, and nothing in the file is ever run.

.safetensors files hold nothing else. PyTorch files (.pt, .pth, .ckpt) are pickles; they are read with PyTorch's own
restricted reader (`weights_only`), and those that hold further objects by ours (`pickles`).

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from daps_kit.errors import UserError
from daps_kit.reading import reading, require_zip

from .averages import RAW_KEYS, TRAINING, raw_and_averaged
from .pickles import StoredTensor, read_restricted, require_stored

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["convert", "load_into", "read_tensors", "rooted"]

Weights = Literal["auto", "ema", "raw"]
"""The moving average of the weights (`ema`), the last step's (`raw`), or the average where there is one."""


def read_tensors(path: Path, *, weights: Weights = "auto") -> dict[str, Tensor]:
    """Read the state dict of a checkpoint.

    Args:
        path: .safetensors, or any file that `torch.save` wrote (also by PyTorch Lightning).
        weights: which of its weights. A moving average is found beside the state dict (keys such as `ema`), or inside
            it (`model_ema.*`, names without dots, as in latent diffusion); it is returned under the names of the
            weights that it averages, and what it does not average is added to it. Where `auto` finds none in the
            checkpoint of a training, a warning says so.

    What wrappers put before every name (`module.`, `_orig_mod.`) is taken off.

    Returns:
        tensors by name, on the CPU, as they are stored.

    Raises:
        UserError: no such file; truncated, damaged or of another kind; no tensors in it; no moving average in it.
    """
    import torch

    from daps_kit.tensor_file import read_plain

    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such checkpoint: {path}")
    with reading(path):
        content = read_plain(path)[0] if path.suffix == ".safetensors" else _read_torch(path)
    raw, ema = raw_and_averaged(content)
    if not raw and not ema:
        raise UserError(
            f"{path} holds no state dict: no tensors by name at its top or under {', '.join(RAW_KEYS)}"
        )
    if weights == "ema" and not ema:
        raise UserError(f"{path} holds no moving average of the weights; use weights: raw or auto")
    if weights == "auto" and not ema and isinstance(content, Mapping) and TRAINING & content.keys():
        warnings.warn(
            f"{path} holds no moving average of the weights; those of its last step are taken", stacklevel=2
        )
    chosen = raw if weights == "raw" or not ema else {**raw, **ema}
    with reading(path):
        for tensor in chosen.values():
            if not isinstance(tensor, StoredTensor) and tensor.layout == torch.strided:
                require_stored(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())
        return {
            name: tensor.make() if isinstance(tensor, StoredTensor) else tensor
            for name, tensor in chosen.items()
        }


def rooted(tensors: Mapping[str, Tensor], name: str, source: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a network under its own names, without what a larger module puts before them.

    Args:
        tensors: by name.
        name: of a tensor that every such network has.
        source: what to name in errors.

    Raises:
        UserError: the network is one part of several, so that it is not clear that it is meant.
    """
    before = {key.removesuffix(name) for key in tensors if key.endswith(f".{name}")}
    if name in tensors or not before:
        return dict(tensors)
    prefix = min(before)
    others = [key for key in tensors if "." in key and not key.startswith(prefix)]
    if len(before) > 1 or others:
        also = (sorted(before - {prefix}) or others)[0]
        raise UserError(
            f"{source} holds more than one network: {name} is under {prefix}, and there is {also}"
        )
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Give a module its weights, each of them and nothing else; float types become the module's.

    The module may be on the meta device; it takes the tensors as they are, without a copy where types agree.

    Args:
        module: every parameter and buffer of its state dict must be among `tensors`, with its shape.
        tensors: finite.
        source: what to name in errors.

    Raises:
        UserError: missing, unexpected or misshapen tensors (the first three of each are named), or numbers that are not
            finite.
    """
    import torch

    wanted = module.state_dict()
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems = [
        _first(label, names)
        for label, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise UserError(f"{source} does not fit the network: {'; '.join(problems)}")
    ready = {}
    for name, value in wanted.items():
        tensor = tensors[name]
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{source} is damaged: {name} holds numbers that are not finite")
        ready[name] = tensor.to(value.dtype) if value.is_floating_point() else tensor
    module.load_state_dict(ready, strict=True, assign=True)


def convert(source: Path, target: Path, *, weights: Weights = "auto") -> int:
    """Write the tensors of a checkpoint as .safetensors, and return how many they are.

    Raises:
        UserError: `source` cannot be read, `target` is not named .safetensors or cannot be written.
    """
    from safetensors.torch import save_file

    if target.suffix != ".safetensors":
        raise UserError(f"{target}: the converted file must be named .safetensors")
    tensors = read_tensors(source, weights=weights)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        plain = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"format": "pt"})  # which libraries look for
        temporary.replace(target)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise UserError(f"cannot write {target}: {error}") from error
        raise
    return len(tensors)


def _first(label: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{label}: {', '.join(names[:3])}{more}"


def _read_torch(path: Path) -> Any:
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        require_zip(path)
    else:
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith(b"PK"):
            raise UserError(f"{path} is cut short: the end of the archive is missing; fetch it again")
        if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise UserError(f"{path} is a web page and not a checkpoint; fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles, which end in an error of our own
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        if zipped:
            return read_restricted(path)
        raise UserError(
            f"{path} is not a checkpoint, or holds more than tensors in PyTorch's old file format"
        ) from error
