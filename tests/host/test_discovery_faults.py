"""Plugins with faults of every kind: each is a value with one line, and the host and its output are as without it."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from daps_kit.discovery import Plugin
from daps_kit.hooks import GROUP
from daps_kit.intact import intact
from daps_kit.registry import Registry

HEAD = """
import os, sys
from pydantic import Field
from daps_kit.hooks import hookimpl
from daps_kit.settings import OperatorSettings, Settings

class Good(OperatorSettings):
    "A good one."
    name = "good"
    def build(self, *, shape, seed, device): ...
"""
HOOK = """
@hookimpl
def daps_operators():
    {}
"""
UNTELLABLE = "class Untellable(Exception):\n    def __str__(self):\n        raise {}\n"


def hook(body: str) -> str:
    return HEAD + HOOK.format(body)


def offered(cls: str) -> str:
    """A plugin whose class has these lines."""
    return HEAD + f"class Bad({cls}\n" + HOOK.format("return [Bad]")


BUILD = "    def build(self, *, shape, seed, device): ...\n"
FAULTS: dict[str, tuple[str, str]] = {
    # --- exceptions at import
    "an exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "a syntax error": ("def", "SyntaxError: .*"),
    "a missing module": ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
    "a name the host has not": ("from daps_kit.files import nothing", "ImportError: cannot import .*"),
    "an exit": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "an interrupt of its own": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "a generator's exit": ("raise GeneratorExit", "GeneratorExit"),
    "an exception of no class of Exception": (
        "class Odd(BaseException): pass\nraise Odd('x')", "Odd: x",
    ),
    "a text that raises": (UNTELLABLE.format("ValueError") + "raise Untellable", "Untellable"),
    "a text that leaves": (UNTELLABLE.format("SystemExit") + "raise Untellable", "Untellable"),
    "a text that interrupts": (UNTELLABLE.format("KeyboardInterrupt") + "raise Untellable", "Untellable"),
    "a text that is none": (
        "class Odd(Exception):\n    def __str__(self): return 3\nraise Odd", "Odd",
    ),
    "a text of many lines": ("raise ValueError('a\\n  b\\n\\tc')", "ValueError: a b c"),
    "a text that colours the terminal": ("raise ValueError('\\x1b[31mred\\x07')", r"ValueError: \?\[31mred\?"),
    "a text without end": ("raise ValueError('x' * 10**6)", r"ValueError: x{500}\.\.\."),
    "an import error that names no text": ("raise ImportError('x', name=3)", "ImportError: x"),
    "recursion without end": ("def f(): f()\nf()", "RecursionError: .*"),
    "no memory": ("raise MemoryError", "MemoryError"),
    "a warning as an error": (
        "import warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('error')\n    warnings.warn('old')",
        "UserWarning: old",
    ),
    # --- what hooks do
    "no hook": ("x = 1", "it has no function marked @hookimpl; .*"),
    "an unknown hook": (
        HEAD + "@hookimpl\ndef daps_operater(): return []", "unknown hook 'daps_operater'; .*did you mean 'daps_operators'.*",
    ),
    "a hook with arguments": (HEAD + "@hookimpl\ndef daps_operators(x): return []", "PluginValidationError: .*"),
    "an exception in a hook": (hook("raise OSError('late')"), "OSError: late"),
    "an exit in a hook": (hook("os.sys.exit(3)"), "SystemExit: 3"),
    "an exception amid what it yields": (hook("yield Good; raise OSError('later')"), "OSError: later"),
    "nothing": (hook("return None"), "daps_operators returned None, not a list of settings classes"),
    "no list": (hook("return 3"), "daps_operators returned 3, not a list of settings classes"),
    "no class": (hook("return ['x']"), "daps_operators returned 'x', which is not a subclass of OperatorSettings"),
    "a thing that cannot be shown": (
        hook("return [type('Odd', (), {'__repr__': lambda self: 1 / 0})()]"), "ZeroDivisionError: division by zero",
    ),
    "things without end": (
        hook("import itertools; return itertools.repeat(Good)"), "daps_operators returned more than 1000 things",
    ),
    "one thing twice": (hook("return [Good, Good]"), "faulty offers the operator 'good' twice"),
    # --- what classes say
    "no name": (offered(f"OperatorSettings):\n    'Doc.'\n{BUILD}"), "operator Bad needs a `name` .*"),
    "a name of another type": (
        offered(f"OperatorSettings):\n    'Doc.'\n    name = 3\n{BUILD}"), "operator Bad needs a `name` .* not 3",
    ),
    "a name that is a path": (
        offered(f"OperatorSettings):\n    'Doc.'\n    name = '../x'\n{BUILD}"), r"operator Bad needs a `name` .* not '\.\./x'",
    ),
    "no docstring": (offered(f"OperatorSettings):\n    name = 'bad'\n{BUILD}"), "operator Bad has no docstring.*"),
    "a field without a description": (
        offered(f"OperatorSettings):\n    'Doc.'\n    name = 'bad'\n    size: int = 3\n{BUILD}"),
        "operator Bad has fields without a description: size",
    ),
    "a field called use": (
        offered(f"OperatorSettings):\n    'Doc.'\n    name = 'bad'\n    use: int = Field(3, description='x')\n{BUILD}"),
        "operator Bad has a field `use`.*",
    ),
    "settings that may change": (
        offered(f"OperatorSettings):\n    'Doc.'\n    name = 'bad'\n    model_config = {{'frozen': False}}\n{BUILD}"),
        "operator Bad must keep frozen=True .*",
    ),
    "no build": (offered("OperatorSettings):\n    'Doc.'\n    name = 'bad'\n"), "operator Bad does not define build"),
    "a default that does not fit": (
        offered(f"OperatorSettings):\n    'Doc.'\n    name = 'bad'\n    size: int = Field(ge='x', description='x')\n{BUILD}"),
        "(TypeError|SchemaError): .*",
    ),
    # --- what it does to the host
    "a host's function replaced": (
        "import daps_kit.files\ndaps_kit.files.write_atomic = print\n" + hook("return [Good]"),
        "it changes daps_kit.files.write_atomic, which is not its own; it was put back",
    ),
    "a kind removed": (
        "import daps_kit.settings\ndaps_kit.settings.KINDS.clear()\n" + hook("return [Good]"),
        ".*; it changes daps_kit.settings.KINDS, which is not its own; it was put back",
    ),
    "a base class changed in a hook": (
        hook("OperatorSettings.summary = classmethod(lambda cls: 'mine'); return [Good]"),
        r"it changes daps_kit\.settings\.(ComponentSettings|OperatorSettings)\.summary, .*",
    ),
    "another working folder": ("import os\nos.chdir('/')\n" + hook("return [Good]"), "it changes the working folder, .*"),
    "the handler of Ctrl-C": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + hook("return [Good]"),
        "it changes the handler of Ctrl-C, .*",
    ),
    "another open": (
        "import builtins\nbuiltins.open = None\n" + hook("return [Good]"), r"it changes builtins\.open, .*",
    ),
    "an exception after a change": (
        "import daps_kit.files\ndaps_kit.files.write_atomic = print\n1 / 0", "ZeroDivisionError: division by zero; it changes daps_kit.files.write_atomic, .*",
    ),
}  # fmt: skip

HARMLESS = {
    "print": "print('hello')",
    "a line without end": "print('hello', end='')",
    "the descriptor of the output": "import os\nos.write(1, b'hello')",
    "a child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(\"hello\")'], check=True)",
    "the output that there was": "import sys\nsys.__stdout__.write('hello')\nsys.__stdout__.flush()",
    "another output": "import io, sys\nprint('hello')\nsys.stdout = io.StringIO()",
}
"""Plugins that write to the standard output while they are imported."""


@dataclass(frozen=True)
class Distribution:
    name: str = "faulty"
    version: str = "1.0"
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """An entry point whose module is a text."""

    source: str
    name: str = "main"
    value: str = "faulty_plugin"
    dist: Any = field(default_factory=Distribution)

    def load(self) -> ModuleType:
        module = ModuleType(self.value)
        exec(compile(self.source, self.value, "exec"), vars(module))
        return module


def discovered(monkeypatch: pytest.MonkeyPatch, point: Point) -> Plugin:
    """Return what comes of an entry point beside those of the host, which are as they were."""
    own = [each for each in importlib.metadata.entry_points(group=GROUP) if each.dist.name == "daps-kit"]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point, *own])
    monkeypatch.delenv("DAPS_KIT_DISABLE", raising=False)
    with intact() as changed:
        registry = Registry.discover()
    assert changed == []
    (found,) = [plugin for plugin in registry.plugins if plugin.distribution != "daps-kit"]
    builtin = [plugin for plugin in registry.plugins if plugin is not found]
    assert len(builtin) == 3
    assert all(plugin.status == "ok" for plugin in builtin)
    assert registry.find("operator", "daps-kit/gaussian_blur")
    return found


def test_there_are_forty_faults() -> None:
    assert len(FAULTS) >= 40


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_line_and_the_host_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    source, error = FAULTS[fault]
    found = discovered(monkeypatch, Point(source))
    assert found.status == "broken"
    assert re.fullmatch(error, found.error), found.error
    assert found.provides == ()
    assert found.remedy
    assert (found.error + found.remedy).isprintable()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_written_at_import_is_kept_from_the_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    found = discovered(monkeypatch, Point(HARMLESS[kind] + hook("return [Good]")))
    assert (found.status, found.error) == ("ok", "")
    assert [component.name for component in found.provides] == ["good"]
    assert found.output == "hello" or kind == "the output that there was"  # which pytest may have replaced
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "point",
    [
        Point("", value=""),
        Point("", dist=Distribution(name=None, version=None)),  # type: ignore[arg-type]
        Point("", dist=Distribution(requires=("daps-kit>=99",))),
    ],
    ids=["no module", "no metadata", "another host"],
)
def test_damaged_metadata(monkeypatch: pytest.MonkeyPatch, point: Point) -> None:
    assert discovered(monkeypatch, point).status == "broken"


def test_a_distribution_that_cannot_be_read_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged:
        @property
        def entry_points(self) -> Any:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    def refuse(**_: Any) -> Any:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    there = list(importlib.metadata.distributions(name="daps-kit"))[:1]
    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [Damaged(), *there])
    assert [plugin.status for plugin in Registry.discover().plugins] == ["ok"] * 3
