"""deepinv's modules, made from a recipe's words, and copies of them in other precisions."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daps_kit.errors import ComponentError, did_you_mean
from daps_kit.images import load_image
from daps_kit.reading import reading

__all__ = ["Copies", "copied", "find", "make", "read_tensor", "seeded"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block the global random states are those of a seed; afterwards they are what they were."""
    state, before = np.random.get_state(), random.getstate()  # noqa: NPY002 (what deepinv may draw from)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
            random.setstate(before)


class Copies:
    """A module in the precision and on the device of what it is given; copies are made when they are needed."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._made: dict[tuple[torch.dtype, str], Any] = {}

    def like(self, x: Tensor) -> Any:
        """Return the module in the precision of `x`, and where `x` is."""
        key = (x.dtype, str(x.device))
        if key not in self._made:
            made = copied(self.module)
            _convert(made, x.dtype, x.device)
            self._made[key] = made
        return self._made[key]


def copied(module: nn.Module) -> Any:
    """Return a copy that shares nothing that calls may change, but random generators, which deepcopy does not take."""
    generators = {
        id(v): v for part in _parts(module) for v in vars(part).values() if isinstance(v, torch.Generator)
    }
    try:
        return copy.deepcopy(module, generators)
    except TypeError:  # a wrapper of a library in another language
        return copy.copy(module)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all within it, a physics' plain list of others included."""
    for part in module.modules():
        yield part
        for member in getattr(part, "physics_list", ()):
            yield from _parts(member)


def _convert(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give a module, its tensors and what it remembers of their type, another precision and device."""
    wide = torch.complex128 if dtype is torch.float64 else torch.complex64

    def tensor(t: Tensor) -> Tensor:
        if t.is_complex():
            return t.to(device, wide)
        return t.to(device, dtype) if t.is_floating_point() else t.to(device)

    for part in _parts(module):
        remembered = vars(part).get("dtype")
        if isinstance(remembered, torch.dtype):
            part.dtype = wide if remembered.is_complex else dtype
        part._apply(tensor, recurse=False)


def find(name: str, modules: list[Any], base: type | None = None) -> Any:
    """Return the class or function of deepinv called `name`.

    Args:
        name: as deepinv has it.
        modules: where to look, in this order.
        base: what it must be a subclass of; None for any class or function.

    Raises:
        ComponentError: there is none.
    """

    def fits(thing: Any) -> bool:
        if not str(getattr(thing, "__module__", "")).startswith("deepinv."):
            return False
        return callable(thing) if base is None else isinstance(thing, type) and issubclass(thing, base)

    found = {key: thing for module in reversed(modules) for key, thing in vars(module).items() if fits(thing)}
    names = sorted(key for key in found if not key.startswith("_"))
    if name not in names:
        places = " or ".join(module.__name__ for module in modules)
        shown = f"; there are {', '.join(names)}" if base else ""
        raise ComponentError(f"nothing in {places} is called '{name}'{shown}{did_you_mean(name, names)}")
    return found[name]


def make(
    thing: Callable[..., Any], arguments: Mapping[str, Any], offered: Mapping[str, Any], modules: list[Any]
) -> Any:
    """Call a class or function of deepinv with a recipe's arguments.

    Args:
        thing: the class or function.
        arguments: `{use: name, ...}` is a call of its own, `{file: path}` a tensor, a list a tuple.
        offered: what is passed where `thing` takes an argument of this name and the recipe does not say it.
        modules: where `use` is looked up.

    Raises:
        ComponentError: an argument is unknown or wrong.
    """
    taken = parameters(thing)
    given = {key: _value(value, key, offered, modules) for key, value in arguments.items()}
    name = thing.__name__
    for key in given:
        if key not in taken:
            raise ComponentError(
                f"deepinv's {name} has no argument '{key}'; it has {', '.join(taken)}{did_you_mean(key, taken)}"
            )
    known = {key: value for key, value in offered.items() if taken.get(key) == "named"}
    many = [item for key in given if taken[key] == "many" for item in given[key]]
    given = {key: value for key, value in given.items() if taken[key] != "many"}
    try:
        return thing(*many, **(known | given))
    except ComponentError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ComponentError(f"deepinv's {name} cannot be made: {type(error).__name__}: {reason}") from error


def parameters(thing: Callable[..., Any]) -> dict[str, str]:
    """Return the names of the arguments that a class or function takes.

    The value is 'named' for its own, 'many' for `*these`, 'inherited' for those that a class passes on to its bases.
    """
    found: dict[str, str] = {}
    functions = (
        [vars(cls)["__init__"] for cls in thing.__mro__ if "__init__" in vars(cls)]
        if isinstance(thing, type)
        else [thing]
    )
    for index, function in enumerate(functions):
        taken = inspect.signature(function).parameters.values()
        for p in taken:
            if p.name not in ("self", "args", "kwargs") and p.kind is not p.VAR_KEYWORD:
                many = p.kind is p.VAR_POSITIONAL
                found.setdefault(p.name, "inherited" if index else "many" if many else "named")
        if not any(p.kind is p.VAR_KEYWORD for p in taken):
            break
    return found


def _value(value: Any, key: str, offered: Mapping[str, Any], modules: list[Any]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"file"}:
            return read_tensor(Path(value["file"])).to(offered.get("device", "cpu"))
        if not isinstance(value.get("use"), str):
            raise ComponentError(
                f"{key} must be a value, {{file: path}} or {{use: name, ...}}, got {dict(value)!r}"
            )
        rest = {k: v for k, v in value.items() if k != "use"}
        return make(find(value["use"], modules), rest, offered, modules)
    if isinstance(value, list | tuple):
        items = [_value(item, key, offered, modules) for item in value]
        return items if any(isinstance(item, nn.Module) for item in items) else tuple(items)
    if isinstance(value, str):
        dtype = getattr(torch, value, None) if key == "dtype" else None
        return dtype if isinstance(dtype, torch.dtype) else str(value)
    return value


def read_tensor(path: Path) -> Tensor:
    """Return the numbers of a .npy or .pt file, or the grey values of an image, in [0, 1].

    Raises:
        ComponentError: the file is damaged, or holds something else.
    """
    suffix = path.suffix.lower()
    with reading(path):
        if suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        if suffix in (".pt", ".pth"):
            content = torch.load(path, weights_only=True, map_location="cpu")
            if not isinstance(content, Tensor):
                raise ComponentError(f"{path}: expected one tensor, got {type(content).__name__}")
            return content
        return (load_image(path, 1) + 1) / 2
