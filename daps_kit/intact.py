"""What a plugin must leave as it is while it is imported: the host's own names and classes, and what a process shares.

What is looked at is cheap to look at: the names in the host's modules, its tables in capitals, the base classes of
settings, the built-in functions, the working folder, the handler of Ctrl-C and torch's default type. Not looked at are
the insides of other objects and of other libraries.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .settings import KINDS, ComponentSettings, Settings

__all__ = ["intact"]

_MISSING = object()


@contextlib.contextmanager
def intact() -> Iterator[list[str]]:
    """Put back in the end what was changed meanwhile; the list then names it."""
    changed: list[str] = []
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "daps_kit"}
    bases: tuple[type, ...] = (Settings, ComponentSettings, *KINDS.values())
    owners: dict[str, object] = {**modules, "builtins": builtins}
    owners |= {f"{base.__module__}.{base.__qualname__}": base for base in bases}
    spaces = [(name, owner, dict(vars(owner))) for name, owner in owners.items()]
    tables = [
        (f"{name}.{key}", value, value.copy())
        for name, module in modules.items()
        for key, value in vars(module).items()
        if key.isupper() and isinstance(value, dict | list | set)
    ]
    process = _process()
    try:
        yield changed
    finally:
        for name, module in modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                changed.append(f"sys.modules['{name}']")
        for name, owner, before in spaces:
            changed += [f"{name}.{key}" for key in _put_back(owner, before)]
        for name, table, copy in tables:
            if table != copy:
                _refill(table, copy)
                changed.append(name)
        changed += _restore(process)


def _put_back(owner: object, before: dict[str, Any]) -> list[str]:
    """Give the names in a module or class that are not Python's own the values that they had; return the changed ones.

    What is added to a class is a change, what is added to a module is not: importing adds to packages.
    """
    now = dict(vars(owner))
    keys = {**before, **now} if isinstance(owner, type) else before
    changed = []
    for key in keys:
        old = before.get(key, _MISSING)
        if key.startswith("__") or key in ("_", "_abc_impl") or now.get(key, _MISSING) is old:
            continue
        changed.append(key)
        if old is _MISSING:
            delattr(owner, key)
        else:
            setattr(owner, key, old)
    return changed


def _refill(table: Any, before: Any) -> None:
    table.clear()
    if isinstance(table, list):
        table.extend(before)
    else:
        table.update(before)


def _process() -> dict[str, tuple[Any, Callable[[Any], object]]]:
    """Return what all of a process shares, with what sets it."""
    found: dict[str, tuple[Any, Callable[[Any], object]]] = {}
    with contextlib.suppress(OSError):  # it may have been removed
        found["the working folder"] = (os.getcwd(), os.chdir)
    found["the handler of Ctrl-C"] = (
        signal.getsignal(signal.SIGINT),
        lambda handler: signal.signal(signal.SIGINT, handler),
    )
    torch: ModuleType | None = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_default_dtype"):
        found["torch's default type"] = (torch.get_default_dtype(), torch.set_default_dtype)
        found["whether torch keeps gradients"] = (torch.is_grad_enabled(), torch.set_grad_enabled)
    return found


def _restore(before: dict[str, tuple[Any, Callable[[Any], object]]]) -> list[str]:
    """Set what all of a process shares to what it was; return the names of what had changed."""
    now = _process()
    if "torch's default type" in now and "torch's default type" not in before:
        torch = sys.modules["torch"]
        before = before | {
            "torch's default type": (torch.float32, torch.set_default_dtype),
            "whether torch keeps gradients": (True, torch.set_grad_enabled),
        }
    changed = []
    for name, (value, put) in before.items():
        if name not in now or now[name][0] != value:
            changed.append(name)
            with contextlib.suppress(
                OSError, ValueError, TypeError
            ):  # not the main thread; a handler of no Python
                put(value)
    return changed
