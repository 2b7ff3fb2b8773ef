"""Read checkpoints that others made: tensors only, and nothing in the file is ever run.

.safetensors files hold nothing else. PyTorch files (.pt, .pth, .ckpt) are pickles; they are read with PyTorch's own
restricted reader (`weights_only`). Older training checkpoints hold further objects, of classes that need not even be
installed. Those are read by a reader of our own in which every class or function beyond a short list becomes an inert
placeholder: it takes any arguments and any state, and does nothing with them. Tensors are then made only of the
storages that are asked for, so the optimiser's half of a checkpoint costs no memory.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from daps_kit.errors import UserError
from daps_kit.reading import reading, require_safetensors, require_zip

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["convert", "load_into", "read_tensors", "rooted"]

Weights = Literal["auto", "ema", "raw"]
"""The moving average of the weights (`ema`), the last step's (`raw`), or the average where there is one."""

RAW_KEYS = (
    "state_dict",
    "model",
    "model_state_dict",
    "params",
    "net",
    "network",
    "unet",
    "denoiser",
    "module",
)
EMA_KEYS = ("ema", "model_ema", "ema_state_dict", "state_dict_ema", "params_ema")
AVERAGE = re.compile(r"(?:^|[_.])(?:ema|swa|avg|averaged?|shadow)(?:$|[_.])")
"""What other keys of an average have in their name: ema_model, ema_params, averaged_model, swa_state_dict, ..."""
LIGHTNING_EMA = "model_ema."
WRAPPERS = ("module.", "_orig_mod.", "ema_model.")
"""What DataParallel, torch.compile and keepers of averages put before every name."""
TRAINING = frozenset({"optimizer", "optimizer_states", "optimizer_state_dict", "optim", "opt"})
"""What the checkpoint of a training holds, which often has an average."""


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
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such checkpoint: {path}")
    with reading(path):
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    raw, ema = _select(content)
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
        return {
            name: tensor.make() if isinstance(tensor, _Lazy) else tensor for name, tensor in chosen.items()
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


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor | _Lazy)


def _tensors(value: Any) -> dict[str, Any]:
    """Return the tensors of a mapping by name; nothing of anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {name: item for name, item in value.items() if isinstance(name, str) and _is_tensor(item)}


def _select(content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the raw weights and their moving average (both may be empty), under the same names."""
    if not isinstance(content, Mapping):
        return {}, {}
    raw = next((found for key in RAW_KEYS if (found := _tensors(content.get(key)))), {})
    averages = [*EMA_KEYS, *(key for key in content if isinstance(key, str) and AVERAGE.search(key.lower()))]
    ema = next((found for key in averages if (found := _state(content.get(key)))), {})
    if not raw and not ema:
        raw = _tensors(content)
    raw, ema = _unwrapped(raw), _unwrapped(ema)
    ema = _like(ema, raw)
    averaged = {name: tensor for name, tensor in raw.items() if name.startswith(LIGHTNING_EMA)}
    if averaged:
        raw = {name: tensor for name, tensor in raw.items() if name not in averaged}
        for name in raw:
            prefix, _, rest = name.partition(".")
            average = averaged.get(LIGHTNING_EMA + rest.replace(".", ""))
            if prefix == "model" and average is not None:
                ema[name] = average
    return raw, ema


def _state(value: Any) -> dict[str, Any]:
    """Return the tensors of an average, which may be kept one level deeper."""
    inner = value.values() if isinstance(value, Mapping) else ()
    return _tensors(value) or next((found for part in inner if (found := _tensors(part))), {})


def _unwrapped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Take off what wrappers put before every name, with what they count, and the marks of torch.compile anywhere."""
    named = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items() if "." in name}
    if not named:
        return tensors
    averaged = {name: tensor for name, tensor in named.items() if name.startswith("ema_model.")}
    if averaged and all(name.startswith(("ema_model.", "online_model.")) for name in named):
        named = averaged
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in named):
            return _unwrapped({name.removeprefix(wrapper): tensor for name, tensor in named.items()})
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}


def _like(ema: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Return an average under the names of the weights that it averages, where those have a prefix more or less."""
    if not ema or not raw or any(name in raw for name in ema):
        return ema
    first = min(ema)
    for name in raw:
        for longer, shorter in ((name, first), (first, name)):
            prefix = longer.removesuffix(shorter)
            if longer != prefix and prefix.endswith("."):
                found = {
                    f"{prefix}{k}" if longer is name else k.removeprefix(prefix): t for k, t in ema.items()
                }
                if found.keys() <= raw.keys():
                    return found
    return ema


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    require_safetensors(path)
    return load_file(path)


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
            return _read_restricted(path)
        raise UserError(
            f"{path} is not a checkpoint, or holds more than tensors in PyTorch's old file format"
        ) from error


class _Placeholder:
    """What an unknown class or function becomes: takes everything, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Placeholder:
        return self

    def append(self, item: Any) -> None:
        """Ignore an item."""

    def extend(self, items: Iterable[Any]) -> None:
        """Ignore items."""

    def add(self, item: Any) -> None:
        """Ignore an item."""


class _Lazy:
    """A tensor that is still in the file."""

    def __init__(self, archive: zipfile.ZipFile, storage: tuple[Any, ...], layout: tuple[Any, ...]) -> None:
        self.archive, self.storage, self.layout = archive, storage, layout

    def __setstate__(self, state: Any) -> None:
        pass

    def make(self) -> Tensor:
        """Read it."""
        import torch

        dtype, key, count = self.storage
        offset, size, stride = self.layout
        data = bytearray(self.archive.read(key))
        flat = torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
        return torch.as_strided(flat, size, stride, offset).clone()


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    names = (
        "Float float32, Double float64, Half float16, BFloat16 bfloat16, Long int64, Int int32, Short int16, "
    )
    names += "Char int8, Byte uint8, Bool bool"
    pairs = (pair.split() for pair in names.split(", "))
    return {f"{name}Storage": getattr(torch, dtype) for name, dtype in pairs}


def _read_restricted(path: Path) -> Any:
    """Read a zipped checkpoint with placeholders for what is not a tensor, and tensors that are read when made."""
    archive = zipfile.ZipFile(path)
    pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise UserError(f"{path} is a zip archive but not a PyTorch checkpoint: it has no data.pkl")
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise UserError(f"{path} was written on a big-endian machine, which is not supported")
    dtypes = _dtypes()

    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        return (
            _Lazy(archive, storage, (offset, size, stride)) if isinstance(storage, tuple) else _Placeholder()
        )

    def parameter(data: Any, *rest: Any) -> Any:
        return data

    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch", "Size"): tuple,
        **{("torch", name): dtype for name, dtype in dtypes.items()},
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return known.get((module, name), _Placeholder)

        def persistent_load(self, pid: Any) -> Any:
            if isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and pid[1] in dtypes.values():
                return pid[1], f"{folder}data/{pid[2]}", pid[4]
            return _Placeholder()

    with archive.open(pickled) as file:
        return Reader(file).load()
