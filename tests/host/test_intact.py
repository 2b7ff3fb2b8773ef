"""What a plugin must leave as it is: each change is named and undone."""

from __future__ import annotations

import builtins
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import daps_kit.files
from daps_kit.discovery import HOOKS
from daps_kit.intact import intact
from daps_kit.settings import KINDS, KernelSettings


def put(owner: object, key: str, value: object) -> Callable[[], None]:
    return lambda: setattr(owner, key, value)


CHANGES: dict[str, Callable[[], object]] = {
    "daps_kit.files.write_atomic": put(daps_kit.files, "write_atomic", print),
    "daps_kit.files.natural_key": lambda: delattr(daps_kit.files, "natural_key"),
    "daps_kit.settings.KernelSettings.build": put(KernelSettings, "build", print),
    "daps_kit.settings.ComponentSettings.files": lambda: setattr(
        KernelSettings.__mro__[1], "files", lambda self: []
    ),
    "daps_kit.settings.KINDS": lambda: KINDS.pop("kernel"),
    "daps_kit.discovery.HOOKS": lambda: HOOKS.update(kernel="x"),
    "builtins.print": put(builtins, "print", repr),
    "sys.modules['daps_kit.files']": lambda: sys.modules.update({"daps_kit.files": ModuleType("x")}),
    "the working folder": lambda: os.chdir("/"),
    "the handler of Ctrl-C": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    "torch's default type": lambda: torch.set_default_dtype(torch.float64),
    "whether torch keeps gradients": lambda: torch.set_grad_enabled(False),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("fails", [False, True])
def test_a_change_is_named_and_undone(what: str, fails: bool, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    with intact() as untouched:
        pass
    assert untouched == []
    reached = []
    try:
        with intact() as changed:
            CHANGES[what]()
            assert 1 / (not fails)
    except ZeroDivisionError:
        reached.append(fails)
    assert bool(reached) == fails
    assert what in changed
    with intact() as again:
        CHANGES[what]()
    assert again == changed, "it had been put back"


def test_what_is_added_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with intact() as changed:
        monkeypatch.setattr(daps_kit, "something_new", 1, raising=False)
        monkeypatch.setitem(sys.modules, "daps_kit.something_new", ModuleType("something_new"))
    assert changed == []
