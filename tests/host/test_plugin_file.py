"""A file of Python is executed once, stands alone, and leaves nothing beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from daps_kit.discovery import load_file
from daps_kit.errors import ComponentError
from daps_kit.plugin_file import PLUGINS, PREFIX, load_module, named_files, plugin_path
from daps_kit.registry import Registry
from tests.plugin_files import SOURCE, write_plugin


def test_a_file_offers_its_functions(tmp_path: Path) -> None:
    plugin = load_file(write_plugin(tmp_path))
    assert (plugin.status, plugin.error) == ("ok", "")
    names = [(c.kind, c.qualified) for c in plugin.provides]
    assert names == [
        ("operator", "my_operator.py/dim"), ("operator", "my_operator.py/curve"), ("prior", "my_operator.py/pixels"),
        ("noise", "my_operator.py/normal_like"),
    ]  # fmt: skip
    assert {c.file for c in plugin.provides} == {tmp_path / "my_operator.py"}
    assert [path.name for path in tmp_path.iterdir()] == ["my_operator.py"]


def test_a_content_is_executed_once_and_another_anew(tmp_path: Path) -> None:
    file = write_plugin(tmp_path)
    first = load_file(file)
    assert load_file(file).provides == first.provides
    write_plugin(tmp_path, SOURCE.replace("= 0.5, side", "= 0.7, side"))
    second = load_file(file)
    assert second.version != first.version
    assert second.provides[0].settings().strength == 0.7
    assert first.provides[0].settings().strength == 0.5


def test_hooks_work_in_a_file(tmp_path: Path) -> None:
    source = SOURCE + (
        "\nfrom daps_kit.hooks import hookimpl\nfrom daps_kit.settings import OperatorSettings\n"
        "class Other(OperatorSettings):\n    'Another operator.'\n    name = 'other'\n"
        "    def build(self, *, shape, seed, device): ...\n"
        "@hookimpl\ndef daps_operators():\n    return [Other, dim]\n"
    )
    names = [c.name for c in load_file(write_plugin(tmp_path, source)).provides]
    assert sorted(names) == ["curve", "dim", "normal_like", "other", "pixels"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n\nfoo()\n", r"line 3: NameError: name 'foo' is not defined \(put .*right\)"),
        ("def f(:\n", r"line 1: SyntaxError: .*\(put .*right\)"),
        ("import nowhere_at_all\n", r"line 1: ModuleNotFoundError: .*\(install the module 'nowhere_at_all'"),
        ("import beside\n", r"ModuleNotFoundError: .*\(a file stands alone: put what it imports into it"),
        ("x = 1\n", r"no function marked @hookimpl; .*nor one that @daps_kit.operator"),
        ("import daps_kit\n@daps_kit.operator\ndef f(x, n):\n    return x\n", r"line 2: f: the argument 'n' needs a type, such as n: float"),
        ("raise SystemExit(3)\n", r"line 1: SystemExit: 3"),
        ("from daps_kit import operator\n@operator\ndef dim(x): return x\n@operator(name='dim')\ndef b(x): return x\n", "offers the operator 'dim' twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_a_line(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "beside.py").write_text("")
    before = {name for name in sys.modules if name.startswith(PREFIX)}
    file = write_plugin(tmp_path, source, "wrong.py")
    with pytest.raises(ComponentError, match=message) as caught:
        Registry().add_files([file])
    assert "\n" not in str(caught.value)
    left = {name for name in sys.modules if name.startswith(PREFIX)} - before
    assert not left or "no function" in message or "twice" in message


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="FileNotFoundError"):
        Registry().add_files([tmp_path / "gone.py"])


def test_files_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = write_plugin(tmp_path), write_plugin(tmp_path, "1 / 0\n", "bad.py")
    monkeypatch.setenv(PLUGINS, os.pathsep.join([str(good), str(bad), ""]))
    assert named_files() == [good, bad]
    registry = Registry.discover()
    assert registry.find("operator", "dim").file == good
    (broken,) = [plugin for plugin in registry.plugins if plugin.file == bad]
    assert (broken.status, broken.error) == ("broken", "line 1: ZeroDivisionError: division by zero")
    with pytest.raises(ComponentError, match="the plugin bad.py .* may offer it but is broken: line 1"):
        registry.find("operator", "elsewhere")
    assert all(plugin.file is None for plugin in Registry.discover(third_parties=False).plugins)


def test_files_are_switched_off_like_other_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_plugin(tmp_path, "raise RuntimeError('it was executed')\n")
    for names in ("*", "my_operator.py", "other,my-operator.py"):
        monkeypatch.setenv("DAPS_KIT_DISABLE", names)
        assert load_file(file).status == "disabled"
    monkeypatch.setenv("DAPS_KIT_DISABLE", "other")
    assert load_file(file).status == "broken"


def test_only_files_of_python_are_plugins(tmp_path: Path) -> None:
    assert plugin_path(tmp_path / "a.py") == tmp_path / "a.py"
    for path in (tmp_path, tmp_path / "a.yaml"):
        with pytest.raises(ValueError, match="is no file of Python"):
            plugin_path(path)


def test_dataclasses_find_their_module(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nimport dataclasses\nfrom typing import ClassVar\n"
        "@dataclasses.dataclass\nclass A:\n    x: ClassVar[int] = 1\n    y: int = 2\n"
    )
    module = load_module(write_plugin(tmp_path, source, "with data.py"))
    assert module.A().y == 2
    assert module.__name__.startswith(f"{PREFIX}with_data_")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.py")
    with pytest.raises(OSError, match="it is no regular file"):
        load_module(tmp_path / "mine.py")
