"""The command line, as its users meet it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import daps_kit
from daps_kit import registry as registry_module
from daps_kit.errors import UserError
from daps_kit.recipe import installed_recipes, load_recipe
from daps_kit.registry import default_registry
from tests.host.command_line import call, ok


def test_help_and_version() -> None:
    text = ok("--help")
    for command in ("run", "check", "list", "show", "plugins", "schema", "recipes"):
        assert f"  {command} " in text
        assert ok(command, "--help").startswith("Usage: ")
    assert ok("-h") == text
    assert ok("--version") == f"daps-kit, version {daps_kit.__version__}\n"


def test_check() -> None:
    assert ok("check", "good.yaml") == f"good: valid; results go to {Path.cwd()}/results/good\n"
    assert ok("check", "good.yaml", "output=x", "name=n") == f"n: valid; results go to {Path.cwd()}/x\n"
    assert ok("check", "embedded/phase_retrieval").startswith("phase_retrieval: valid; ")


def test_check_lists_every_problem_a_line_each() -> None:
    result = call("check", "bad.yaml", "seed=-1")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "bad.yaml:5:7: runs: expected at least 1, got 0"
    assert lines[1].startswith("bad.yaml:6:1: rusn: unknown key; allowed: ")
    assert lines[2:] == ["override 'seed=-1': seed: expected at least 0, got -1"]
    assert sorted(os.listdir()) == ["bad.yaml", "good.yaml"]


def test_check_for_programs() -> None:
    told = json.loads(ok("check", "good.yaml", "--json"))
    assert told == {
        "valid": True, "problems": [], "recipes": [{"name": "good", "output": str(Path.cwd() / "results/good")}],
    }  # fmt: skip
    result = call("check", "bad.yaml", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["valid"] is False
    assert told["problems"][0] == {
        "message": "expected at least 1, got 0", "path": "runs", "file": "bad.yaml", "line": 5, "column": 7,
    }  # fmt: skip


def test_check_prints_the_resolved_recipe() -> None:
    text = ok("check", "good.yaml", "--resolved")
    Path("again.yaml").write_text(text)
    assert load_recipe("again.yaml") == load_recipe("good.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "no.yaml"), "no such file: no.yaml"),
        (("check", "quikstart"), "no recipe 'quikstart': "),
        (("show", "gausian_blur"), "error: no component 'gausian_blur'; `daps-kit list` shows them all; did you mean 'gaussian_blur'?"),
        (("show", "operator/gausian_blur"), "error: unknown operator 'gausian_blur'; "),
        (("recipes", "copy", "nothing", "x.yaml"), "error: no recipe 'nothing': "),
        (("recipes", "copy", "good.yaml", "bad.yaml"), "error: bad.yaml exists; choose another name or move it away"),
        (("recipes", "copy", "good.yaml", "no/x.yaml"), "error: no such folder: "),
        (("schema", "--output", "no/x.json"), "error: cannot write no/x.json: No such file or directory"),
        (("run", "bad.yaml"), "bad.yaml:5:7: runs: "),
    ],
)  # fmt: skip
def test_mistakes_of_users(arguments: tuple[str, ...], message: str) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.endswith("\n")
    assert "Traceback" not in result.stderr


def test_what_is_no_mistake_of_the_user_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daps_kit.command.check.load_recipe", lambda *_: 1 / 0)
    assert isinstance(call("check", "good.yaml").exception, ZeroDivisionError)


def test_control_c_leaves_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("daps_kit.command.check.load_recipe", interrupt)
    result = call("check", "good.yaml")
    assert (result.exit_code, result.output) == (130, "")


class _Runner:
    """Stands for `daps_kit.runs.runner`, to see what it is called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def run(self, recipe: str, overrides: tuple[str, ...], *, quiet: bool) -> None:
        self.calls.append((recipe, overrides, quiet))
        if recipe == "wrong":
            raise UserError("the disk is full")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> _Runner:
    stand_in = _Runner()
    monkeypatch.setitem(sys.modules, "daps_kit.runs.runner", stand_in)  # type: ignore[arg-type]
    return stand_in


def test_run_hands_everything_on(runner: _Runner) -> None:
    assert ok("run", "good.yaml") == ""
    ok("run", "good.yaml", "runs=2", "seed=3", "--quiet", "--output", "a: b")
    assert runner.calls == [
        ("good.yaml", (), False), ("good.yaml", ("runs=2", "seed=3", 'output="a: b"'), True),
    ]  # fmt: skip
    (recipe,) = load_recipe("good.yaml", runner.calls[1][1])
    assert recipe.output == Path.cwd() / "a: b"
    result = call("run", "wrong")
    assert (result.exit_code, result.stderr) == (2, "error: the disk is full\n")


def test_negative_values_need_no_escape(runner: _Runner) -> None:
    ok("run", "good.yaml", "prior.mean=-0.5")
    assert runner.calls == [("good.yaml", ("prior.mean=-0.5",), False)]


def test_list() -> None:
    lines = ok("list").splitlines()
    assert lines[0].split() == ["kind", "name", "summary", "provided", "by"]
    assert len(lines) == 1 + len(default_registry().components())
    (line,) = [line for line in lines if " gaussian_blur " in line]
    summary = default_registry().find("operator", "gaussian_blur").settings.summary()
    assert line.split()[0] == "operator"
    assert summary in line
    assert line.endswith(f"daps-kit {daps_kit.__version__}")
    kernels = json.loads(ok("list", "kernels", "--json"))
    assert {"langevin", "underdamped", "metropolis"} <= {c["name"] for c in kernels}
    assert {c["kind"] for c in kernels} == {"kernel"}
    assert all(set(c) == {"kind", "name", "summary", "distribution", "version"} for c in kernels)
    assert call("list", "kernel").exit_code == 2


def test_show() -> None:
    text = ok("show", "operator/gaussian_blur")
    assert text.startswith(f"operator/gaussian_blur, provided by daps-kit {daps_kit.__version__}\n")
    assert ok("show", "gaussian_blur") == ok("show", "operators/daps-kit/gaussian_blur") == text
    (line,) = [line for line in text.splitlines() if line.startswith("intensity")]
    assert line.split(maxsplit=5)[:5] == ["intensity", "number", "3.0", ">", "0"]
    assert "standard deviation of the Gaussian" in line
    assert text.rstrip().endswith("intensity: 3.0")


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


def test_schema() -> None:
    told = json.loads(ok("schema"))
    assert told["title"] == "A recipe of daps-kit"
    assert ok("schema", "--output", "s.json") == ""
    assert json.loads(Path("s.json").read_text()) == told


def test_recipes() -> None:
    told = json.loads(ok("recipes", "--json"))
    assert [each["name"] for each in told] == list(installed_recipes())
    assert all(each["summary"] and Path(each["path"]).is_file() for each in told)
    lines = ok("recipes").splitlines()
    assert len(lines) == 1 + len(told)
    assert not [line for line in lines if "parts/" in line]
