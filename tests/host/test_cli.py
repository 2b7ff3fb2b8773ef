"""The command line, as its users meet it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import daps_kit
from daps_kit import registry as registry_module
from daps_kit.command.main import main
from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.document import installed_recipes
from daps_kit.recipe.training import load_training
from daps_kit.registry import default_registry
from daps_kit.settings import KernelSettings

MINIMAL = """\
format: 1
data: {use: prior, count: 2}
prior: {use: gaussian}
operator: {use: identity}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(MINIMAL)
    Path("bad.yaml").write_text(MINIMAL + "runs: 0\nrusn: 3\n")
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def ok(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert result.exception is None
    assert result.stderr == ""
    return result.stdout


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


def test_show_what_must_be_given_and_what_is_inside() -> None:
    told = json.loads(ok("show", "prior/trained", "--json"))
    (path,) = [p for p in told["parameters"] if p["name"] == "path"]
    assert (path["type"], path["default"]) == ("path", None)
    assert "path: ..." in told["recipe"]
    assert "(required)" in ok("show", "prior/trained")
    told = json.loads(ok("show", "sampler/daps", "--json"))
    names = [p["name"] for p in told["parameters"]]
    assert {"annealing.levels", "annealing.sigma_max", "ode.steps", "kernel"} <= set(names)
    assert all(p["description"] for p in told["parameters"])


@pytest.mark.parametrize("component", default_registry().components(), ids=lambda c: f"{c.kind}-{c.name}")
def test_the_section_shown_can_be_copied_into_a_recipe(component: Any) -> None:
    told = json.loads(ok("show", f"{component.kind}/{component.qualified}", "--json"))
    if component.name == "diffusers":  # takes a folder
        Path("weights.safetensors").mkdir()
    else:
        Path("weights.safetensors").touch()
    extra = told["recipe"].replace(" ...", " weights.safetensors")
    base = "".join(
        line for line in MINIMAL.splitlines(True) if not line.startswith(extra.partition(":")[0] + ":")
    )
    if component.kind == "trainer":
        lists = {
            p["name"] for p in told["parameters"] if p["default"] is None and p["type"].startswith("list")
        }
        given = {
            key: "[weights.safetensors]" if key in lists else "weights.safetensors"
            for key in ("images", "output")
        }
        section = "".join(
            line.replace(" ...", f" {given.get(line.strip().partition(':')[0], '')}")
            for line in told["recipe"].splitlines(True)
        )
        Path("shown.yaml").write_text("format: 1\n" + section)
        assert type(load_training("shown.yaml").trainer) is component.settings
        return
    Path("shown.yaml").write_text(base + extra)
    (recipe,) = load_recipe("shown.yaml")
    found = recipe.sampler.kernel if component.kind == "kernel" else getattr(recipe, component.kind)  # type: ignore[attr-defined]
    assert type(found) is component.settings
    if "..." not in told["recipe"]:
        assert found == component.settings()


class Twice(KernelSettings):
    """A kernel with the name of an operator."""

    name = "gaussian_blur"

    def build(self): ...


def test_show_a_name_that_two_kinds_have() -> None:
    with default_registry().extended(Twice):
        result = call("show", "gaussian_blur")
    assert result.stderr == "error: 'gaussian_blur' may be operator/gaussian_blur or kernel/gaussian_blur\n"


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


RUNS = [name for name in installed_recipes() if not name.startswith("train/")]


@pytest.mark.parametrize("name", RUNS)
def test_a_copy_stands_alone_and_means_the_same(name: str) -> None:
    told = ok("recipes", "copy", name, "mine.yaml")
    assert told == "mine.yaml: edit it, then `daps-kit run mine.yaml`\n"
    text = Path("mine.yaml").read_text()
    assert "extends" not in text
    summaries = {each["name"]: each["summary"] for each in json.loads(ok("recipes", "--json"))}
    assert text.startswith(f"# {summaries[name]}\n")
    original = load_recipe(name)
    copies = load_recipe("mine.yaml")
    assert [c.model_dump(exclude={"name"}) for c in copies] == [
        o.model_dump(exclude={"name"}) for o in original
    ]
    assert [c.sampler for c in copies] == [o.sampler for o in original]
    assert [c.operator for c in copies] == [o.operator for o in original]


def test_a_copy_keeps_the_comments_and_makes_paths_work() -> None:
    Path("base").mkdir()
    Path("base/photo.png").touch()
    Path("base/gaussian").touch()
    Path("base/part.yaml").write_text(
        "# Part: what all share.\nformat: 1\n\n# The picture.\ndata: {use: images, path: photo.png}  # a portrait\n"
        "prior: {use: gaussian}\n"
    )
    Path("base/r.yaml").write_text(
        "# A title.\n# And more.\nextends: part.yaml\noperator:\n  use: identity\n  noise:\n    use: gaussian\n"
        "    # Louder than usual.\n    sigma: 5e-1\nseed: 3  # any\n"
    )
    ok("recipes", "copy", "base/r.yaml", "r2.yaml")
    assert Path("r2.yaml").read_text() == (
        "# A title.\n# And more.\nformat: 1\n# The picture.\n"
        f"data: {{use: images, path: {Path.cwd()}/base/photo.png}}  # a portrait\nprior: {{use: gaussian}}\n"
        "operator:\n  use: identity\n  noise:\n    use: gaussian\n    # Louder than usual.\n    sigma: 0.5\nseed: 3  # any\n"
    )


def test_tables_for_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from daps_kit.command import terminal

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    terminal.print_table(("a", "bracket"), [("x", "[whole number]")])
    terminal.print_yaml("use: x\n")
    text = click.unstyle(capsys.readouterr().out)
    assert "[whole number]" in text
    assert "use: x" in text
