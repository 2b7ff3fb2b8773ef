"""`daps-kit plugins`: what works, what does not, and the checks of one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from daps_kit import registry as registry_module
from tests.host.command_line import call, ok


@pytest.fixture
def strangers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two plugins by hand: a broken one and one that prints."""
    for name, source in {"broken_one": "1 / 0", "chatty": "print('hello')\n1 / 0"}.items():
        info = folder / f"{name}-0.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.3\n"
        )
        (info / "entry_points.txt").write_text(f"[daps_kit]\nmain = {name}\n")
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("DAPS_KIT_DISABLE", "")
    importlib.invalidate_caches()
    registry_module.default_registry.cache_clear()
    yield
    registry_module.default_registry.cache_clear()


@pytest.mark.usefixtures("strangers")
def test_plugins() -> None:
    result = call("plugins")
    assert result.exit_code == 0
    text = result.stdout
    assert (
        "broken-one:main: ZeroDivisionError: division by zero; report it to the authors of broken-one" in text
    )
    assert "chatty:main: it printed while it was imported: hello" in text
    assert any(line.startswith("daps-kit:samplers") and " ok " in line for line in text.splitlines())
    told = {p["id"]: p for p in json.loads(ok("plugins", "--json"))}
    assert (told["broken-one:main"]["status"], told["broken-one:main"]["provides"]) == ("broken", [])
    assert "kernel/langevin" in told["daps-kit:samplers"]["provides"]
    assert call("plugins", "--check").exit_code == 1
    result = call("list")
    assert result.exit_code == 0
    assert (
        result.stderr
        == "not shown, for they are broken: broken-one 0.3, chatty 0.3; see `daps-kit plugins`\n"
    )
    json.loads(ok("list", "--json"))


@pytest.mark.usefixtures("strangers")
def test_plugins_can_be_switched_off() -> None:
    told = {p["id"]: p for p in json.loads(ok("--no-plugins", "plugins", "--json"))}
    assert told["broken-one:main"]["status"] == "disabled"
    assert told["daps-kit:operators"]["status"] == "ok"
    assert call("--no-plugins", "plugins", "--check").exit_code == 0


def test_the_builtin_plugins_pass_the_check() -> None:
    ok("plugins", "--check")
