"""Which tensors of a checkpoint are the weights, and which their moving average, whoever wrote it.

Trainers keep the average beside the state dict (`ema`), inside it (`model_ema.*`), or in a wrapper; wrappers put a word
before every name. Here both come out under the same names.

Importing this module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .pickles import StoredTensor

__all__ = ["RAW_KEYS", "TRAINING", "raw_and_averaged"]

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
AVERAGE = re.compile(r"(?:^|[_.])(?:ema|swa|avg|averaged?|shadow|polyak)(?:$|[_.])")
"""What other keys of an average have in their name: ema_model, ema_params, averaged_model, swa_state_dict, ..."""
LIGHTNING_EMA = "model_ema."
WRAPPERS = ("module.", "ema_model.")
"""What DataParallel and keepers of averages put before every name."""
MARKS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpoints put into names, anywhere."""
DEPTH = 4
"""How many levels of a checkpoint are searched for an average: callbacks, the callback, its state, the average."""
TRAINING = frozenset({"optimizer", "optimizer_states", "optimizer_state_dict", "optim", "opt"})
"""What the checkpoint of a training holds, which often has an average."""


def raw_and_averaged(content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the raw weights and their moving average (both may be empty), under the same names."""
    if not isinstance(content, Mapping):
        return {}, {}
    raw = next((found for key in RAW_KEYS if (found := _tensors(content.get(key)))), {})
    usual = (_state(content.get(key), raw) for key in EMA_KEYS)
    others = (_state(value, raw) for value in _averages(content, DEPTH))
    ema = next(filter(None, (*usual, *(found for found in others if _is_of(found, raw)))), {})
    if not raw and not ema:
        raw = _tensors(content)
    raw, ema = _unwrapped(raw), _unwrapped(ema)
    raw, beside = _beside(raw)
    ema = _like(ema, raw) or beside
    averaged = {name: tensor for name, tensor in raw.items() if name.startswith(LIGHTNING_EMA)}
    if averaged:
        raw = {name: tensor for name, tensor in raw.items() if name not in averaged}
        for name in raw:
            prefix, _, rest = name.partition(".")
            average = averaged.get(LIGHTNING_EMA + rest.replace(".", ""))
            if prefix == "model" and average is not None:
                ema[name] = average
    return raw, ema


def _averages(content: Any, depth: int) -> Iterator[Any]:
    """Yield what lies under the names of averages, the outermost first."""
    named = isinstance(content, Mapping)
    items = list(content.items()) if named else [("", item) for item in content]
    yield from (item for key, item in items if isinstance(key, str) and AVERAGE.search(key.lower()))
    for _, item in items:
        if depth > 1 and isinstance(item, Mapping | list | tuple) and not _tensors(item):
            yield from _averages(item, depth - 1)


def _is_of(average: dict[str, Any], raw: dict[str, Any]) -> bool:
    """Whether these may be the average of the weights, and not that of a loss or another network."""
    own = _unwrapped(raw)
    return not own or any(name in own for name in _like(_unwrapped(average), own))


def _state(value: Any, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of an average, which may lie one level deeper, or in a list in the order of the weights."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    inner = [value, *parts]
    found = (_tensors(part) or _in_order(part, raw) for part in inner)
    return next((tensors for tensors in found if tensors), {})


def _in_order(value: Any, raw: dict[str, Any]) -> dict[str, Any]:
    """Return a list of tensors under the names of those weights that have their shapes, in their order.

    Nothing unless each of them finds its place: buffers among the weights are passed over.
    """
    if not isinstance(value, list | tuple) or not value or not all(map(_is_tensor, value)):
        return {}
    named: dict[str, Any] = {}
    rest = list(value)
    for name, tensor in raw.items():
        if rest and tuple(rest[0].shape) == tuple(tensor.shape):
            named[name] = rest.pop(0)
    return {} if rest else named


def _beside(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return weights without the average that lies among them, and that: `net.*` beside `net_ema.*`."""
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in raw.items():
        root, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(root, {})[rest] = tensor
    for root in filter(AVERAGE.search, parts):
        average = _unwrapped(parts[root])
        own = {name: tensor for name, tensor in raw.items() if not name.startswith(f"{root}.")}
        for prefix, weights in (("", own), *((f"{other}.", part) for other, part in parts.items())):
            if weights and not AVERAGE.search(prefix) and weights.keys() <= average.keys():
                return own, {f"{prefix}{name}": average[name] for name in weights}
    return raw, {}


def _unwrapped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Take off what wrappers put before every name, with what they count, and their marks anywhere."""
    tensors = {MARKS.sub("", name): tensor for name, tensor in tensors.items()}
    named = {name: tensor for name, tensor in tensors.items() if "." in name}
    averaged = {name: tensor for name, tensor in named.items() if name.startswith("ema_model.")}
    if averaged and all(name.startswith(("ema_model.", "online_model.")) for name in named):
        named = averaged
    for wrapper in WRAPPERS:
        if named and all(name.startswith(wrapper) for name in named):
            return _unwrapped({name.removeprefix(wrapper): tensor for name, tensor in named.items()})
    return tensors


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


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor | StoredTensor)


def _tensors(value: Any) -> dict[str, Any]:
    """Return the tensors of a mapping by name; nothing of anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {name: item for name, item in value.items() if isinstance(name, str) and _is_tensor(item)}
