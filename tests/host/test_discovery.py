"""Discovery with hand-written distributions: what works, what is broken, and what the host says about it."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import daps_kit
from daps_kit.discovery import CHECKPOINTS, HOOKS, TRACKERS, check_settings
from daps_kit.errors import ComponentError
from daps_kit.hooks import hookspec  # noqa: F401 (the module must load without a plugin)
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import KINDS

HEAD = """
from pydantic import Field
from daps_kit.hooks import hookimpl
from daps_kit.settings import KernelSettings, OperatorSettings, Settings
"""
GOOD = (
    HEAD
    + '''
class Sharpen(OperatorSettings):
    """Unsharp masking."""
    name = "sharpen"
    amount: float = Field(1.0, gt=0, description="strength")
    def build(self, *, shape, seed, device): ...

@hookimpl
def daps_operators():
    return [Sharpen]
'''
)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write distributions by hand into a folder of the import path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("DAPS_KIT_DISABLE", raising=False)
    before = set(sys.modules)

    def write(
        distribution: str,
        source: str | None,
        *,
        version: str = "1.2",
        points: str | None = None,
        requires: tuple[str, ...] = (),
    ) -> None:
        module = distribution.replace("-", "_")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        metadata = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        metadata += [f"Requires-Dist: {line}" for line in requires]
        (info / "METADATA").write_text("\n".join(metadata) + "\n")
        (info / "entry_points.txt").write_text(f"[daps_kit]\n{points or f'main = {module}'}\n")
        if source is not None:
            (site / f"{module}.py").write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", "") or "").startswith(str(site)):
            del sys.modules[name]


def plugin(registry: Registry, distribution: str):
    (found,) = [p for p in registry.plugins if p.distribution == distribution]
    return found


def test_the_builtin_plugins_work() -> None:
    registry = default_registry()
    assert registry is default_registry()
    builtin = [p for p in registry.plugins if p.distribution == "daps-kit"]
    assert [p.id for p in builtin] == ["daps-kit:operators", "daps-kit:priors", "daps-kit:samplers"]
    assert all(p.status == "ok" and not p.error and not p.output for p in builtin), builtin
    for kind, least in {"operator": 8, "prior": 3, "kernel": 3, "sampler": 1}.items():
        assert len(registry.components(kind)) >= least


def test_every_kind_has_its_hook_and_every_hook_its_kind() -> None:
    from daps_kit import hooks

    specs = {name for name in vars(hooks) if hasattr(getattr(hooks, name), "daps_kit_spec")}
    assert specs == {*HOOKS.values(), CHECKPOINTS, TRACKERS}
    assert set(HOOKS.values()) == {f"daps_{kind}s" for kind in KINDS}
    assert all(base.kind == kind for kind, base in KINDS.items())


def test_a_good_plugin(install: Install) -> None:
    install("daps-sharpen", GOOD)
    registry = Registry.discover()
    found = plugin(registry, "daps-sharpen")
    assert (found.id, found.version, found.entry_point, found.status) == (
        "daps-sharpen:main", "1.2", "daps_sharpen", "ok",
    )  # fmt: skip
    assert [(c.kind, c.name, c.qualified) for c in found.provides] == [
        ("operator", "sharpen", "daps-sharpen/sharpen")
    ]
    component = registry.find("operator", "sharpen")
    assert component is registry.find("operator", "daps-sharpen/sharpen")
    assert component is registry.find("operator", "Daps.Sharpen/sharpen")
    assert component.settings.summary() == "Unsharp masking."
    assert registry.name_in_recipe(component.settings) == "daps-sharpen/sharpen"
    assert registry.component_of(component.settings()) is component


def test_plugins_are_loaded_in_the_order_of_their_distributions(install: Install) -> None:
    for name in ("zeta", "alpha", "Mid_dle"):
        install(name, GOOD)
    names = [p.distribution for p in Registry.discover().plugins]
    assert names == sorted(names, key=lambda name: name.lower().replace("_", "-"))
    assert {"zeta", "alpha", "Mid_dle"} <= set(names)


BAD_CLASS = HEAD + "{}\n@hookimpl\ndef daps_operators():\n    return [Bad]\n"
BODY = '    name = "bad"\n    def build(self, *, shape, seed, device): ...\n'
BROKEN = {
    "import error": ("import there_is_no_such_module\n", "ModuleNotFoundError", "install the module 'there_is_no_such_module'"),
    "syntax error": ("def\n", "SyntaxError", "authors"),
    "exit at import": ("import sys\nsys.exit(3)\n", "SystemExit: 3", "authors"),
    "another host": ("from daps_kit.hooks import no_such_name\n", "ImportError", "another daps-kit"),
    "another host module": ("import daps_kit.no_such_module\n", "ModuleNotFoundError", "another daps-kit"),
    "no hook": ("x = 1\n", "no function marked @hookimpl", "authors"),
    "wrong hook": (
        HEAD + "@hookimpl\ndef daps_operator():\n    return []\n",
        "unknown hook 'daps_operator'; there are daps_operators, ", "authors",
    ),
    "wrong arguments": (HEAD + "@hookimpl\ndef daps_operators(x):\n    return []\n", "x", "authors"),
    "exception in hook": (HEAD + "@hookimpl\ndef daps_operators():\n    1 / 0\n", "ZeroDivisionError", "authors"),
    "exception while iterating": (
        HEAD + "@hookimpl\ndef daps_operators():\n    yield from []\n    raise OSError('late')\n", "OSError: late", "authors",
    ),
    "not a list": (HEAD + "@hookimpl\ndef daps_operators():\n    return 3\n", "daps_operators returned 3", "authors"),
    "no sources": (
        HEAD + "@hookimpl\ndef daps_checkpoints():\n    return 3\n",
        "daps_checkpoints returned 3, not a list of sources", "authors",
    ),
    "not a source": (
        HEAD + "@hookimpl\ndef daps_checkpoints():\n    return ['x']\n", "'x', which is not a Source", "authors",
    ),
    "not a class": (HEAD + "@hookimpl\ndef daps_operators():\n    return ['x']\n", "'x', which is not a subclass of OperatorSettings", "authors"),
    "wrong kind": (
        BAD_CLASS.format('class Bad(KernelSettings):\n    "Doc."\n' + BODY), "not a subclass of OperatorSettings", "authors",
    ),
    "no name": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n    def build(self, *, shape, seed, device): ...\n'),
        "operator Bad needs a `name`", "authors",
    ),
    "slash in name": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n' + BODY.replace('"bad"', '"a/b"')),
        "not 'a/b'", "authors",
    ),
    "no docstring": (BAD_CLASS.format("class Bad(OperatorSettings):\n" + BODY), "has no docstring", "authors"),
    "no description": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n    size: int = 3\n' + BODY),
        "fields without a description: size", "authors",
    ),
    "no build": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n    name = "bad"\n'), "does not define build", "authors",
    ),
    "field use": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n    use: int = Field(3, description="d")\n' + BODY),
        "a field `use`", "authors",
    ),
    "extra allowed": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n    model_config = {"extra": "allow"}\n' + BODY),
        "extra='forbid'", "authors",
    ),
    "name twice": (
        BAD_CLASS.format('class Bad(OperatorSettings):\n    "Doc."\n' + BODY).replace("[Bad]", "[Bad, Bad]"),
        "offers the operator 'bad' twice", "authors",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "error", "remedy"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_a_value_and_breaks_nothing(
    install: Install, source: str, error: str, remedy: str
) -> None:
    install("broken-one", source)
    install("daps-sharpen", GOOD)
    registry = Registry.discover()
    found = plugin(registry, "broken-one")
    assert found.status == "broken"
    assert found.provides == ()
    assert error in found.error
    assert "\n" not in found.error
    assert remedy in found.remedy
    assert plugin(registry, "daps-sharpen").status == "ok"
    assert all(p.status == "ok" for p in registry.plugins if p.distribution == "daps-kit")
    assert not [c for c in registry.components() if c.distribution == "broken-one"]
    with pytest.raises(ComponentError, match="the plugin broken-one 1.2 may offer it but is broken: "):
        registry.find("operator", "sharpened")


def test_a_plugin_without_its_module(install: Install) -> None:
    install("gone-away", None)
    found = plugin(Registry.discover(), "gone-away")
    assert found.status == "broken"
    assert found.remedy == "its own module is not there: reinstall gone-away"


def test_an_entry_point_that_is_no_object_reference(install: Install) -> None:
    install("odd-point", GOOD, points="main = odd_point:missing")
    assert "AttributeError" in plugin(Registry.discover(), "odd-point").error


@pytest.mark.parametrize("wanted", [">=99", "<0.1", "==0.0.1"])
def test_a_plugin_for_another_host_is_not_imported(install: Install, wanted: str) -> None:
    install("elsewhere", "raise RuntimeError('imported')\n", requires=("numpy", f"Daps_Kit ({wanted})"))
    found = plugin(Registry.discover(), "elsewhere")
    here = daps_kit.__version__
    assert found.status == "broken"
    assert found.error == f"elsewhere 1.2 asks for daps-kit {wanted}, this is daps-kit {here}"
    assert found.remedy == f"install a version of elsewhere for daps-kit {here}, or 'daps-kit{wanted}'"


@pytest.mark.parametrize(
    "requires",
    [
        ("daps-kit>=0.1",),
        ("daps-kit",),
        ("daps-kit-extra>=99",),
        ('daps-kit>=99; extra == "next"',),
        ('daps-kit>=99; python_version < "3"',),
        ("daps-kit >== nonsense",),
    ],
)
def test_a_plugin_for_this_host(install: Install, requires: tuple[str, ...]) -> None:
    install("daps-sharpen", GOOD, requires=requires)
    assert plugin(Registry.discover(), "daps-sharpen").status == "ok"


@pytest.mark.parametrize(
    "source",
    [
        "import signal\nsignal.raise_signal(signal.SIGINT)\n",
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n",
    ],
    ids=["raised", "swallowed"],
)
def test_control_c_at_import_names_the_plugin(install: Install, source: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    install("slow-one", source)
    told = "stopped while the plugin slow-one:main was loaded; DAPS_KIT_DISABLE=slow-one switches it off"
    with pytest.raises(KeyboardInterrupt, match=told):
        Registry.discover()
    assert signal.getsignal(signal.SIGINT) is before


def test_control_c_while_a_plugin_hangs_ends_a_command_with_its_name(
    install: Install, tmp_path: Path
) -> None:
    install("slow-one", f"import time\nopen({str(tmp_path / 'here')!r}, 'w').close()\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    program = [sys.executable, "-c", "from daps_kit.command.main import main; main()", "list", "operators"]
    running = subprocess.Popen(
        program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "here").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=30)
    told = "stopped while the plugin slow-one:main was loaded; DAPS_KIT_DISABLE=slow-one switches it off"
    assert (running.returncode, out, error) == (130, "", f"{told}\n")


def test_what_a_plugin_prints_is_kept_from_the_output(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("chatty", "print('hello from chatty')\n" + GOOD)
    found = plugin(Registry.discover(), "chatty")
    assert found.status == "ok"
    assert found.output == "hello from chatty"
    assert capsys.readouterr().out == ""


def test_the_time_of_an_import_is_measured(install: Install) -> None:
    install("sleepy", "import time\ntime.sleep(0.3)\n" + GOOD)
    install("lively", GOOD)
    registry = Registry.discover()
    assert 0.3 <= plugin(registry, "sleepy").seconds < 3
    assert plugin(registry, "lively").seconds < 0.3


def test_two_providers_of_a_name(install: Install) -> None:
    install("first", GOOD)
    install("second", GOOD.replace("Unsharp", "Another"), version="2.0")
    registry = Registry.discover()
    with pytest.raises(ComponentError) as caught:
        registry.find("operator", "sharpen")
    assert str(caught.value) == (
        "several plugins offer 'sharpen' (first 1.2, second 2.0): write first/sharpen or second/sharpen"
    )
    assert registry.find("operator", "second/sharpen").settings.summary() == "Another masking."


def test_a_stranger_never_takes_a_builtin_name_over(install: Install) -> None:
    install("intruder", GOOD.replace('"sharpen"', '"gaussian_blur"'))
    registry = Registry.discover()
    told = "daps-kit/gaussian_blur or intruder/gaussian_blur; DAPS_KIT_DISABLE=intruder switches off"
    with pytest.raises(ComponentError, match=told):
        registry.find("operator", "gaussian_blur")
    own = registry.find("operator", "daps-kit/gaussian_blur")
    assert registry.name_in_recipe(own.settings) == "daps-kit/gaussian_blur"


def test_disabling_by_variable(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("daps-sharpen", GOOD)
    install("other-one", GOOD)
    monkeypatch.setenv("DAPS_KIT_DISABLE", " Daps_Sharpen , daps-kit")
    registry = Registry.discover()
    found = plugin(registry, "daps-sharpen")
    assert found.status == "disabled"
    assert "daps_sharpen" not in sys.modules
    assert plugin(registry, "other-one").status == "ok"
    assert registry.find("operator", "gaussian_blur").distribution == "daps-kit"
    monkeypatch.setenv("DAPS_KIT_DISABLE", "*")
    with pytest.raises(ComponentError, match="the plugin daps-sharpen 1.2 is switched off and may offer it"):
        Registry.discover().find("operator", "sharpen")


def test_discovery_without_third_parties(install: Install) -> None:
    install("daps-sharpen", GOOD)
    registry = Registry.discover(third_parties=False)
    assert {c.distribution for c in registry.components()} == {"daps-kit"}


def command(site: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, which sees what is in `site`."""
    environment = {key: value for key, value in os.environ.items() if key != "DAPS_KIT_DISABLE"}
    environment |= {"PYTHONPATH": str(site), "COLUMNS": "400"} | variables
    program = [sys.executable, "-c", "from daps_kit.command.main import main; main()", *words]
    return subprocess.run(program, env=environment, cwd=site, capture_output=True, text=True, check=False)


def test_the_command_line_starts_whatever_is_installed(install: Install, tmp_path: Path) -> None:
    """Every fault at once: each is named with what helps, and none is in the way of what works."""
    for name, (source, _, _) in BROKEN.items():
        install(f"bad-{name.replace(' ', '-')}", source)
    install("gone-away", None)
    install("other-host", GOOD, requires=("daps-kit>=99",))
    install("first", GOOD)
    install("second", GOOD)
    install("chatty", "print('hello')\n" + GOOD.replace('"sharpen"', '"chat"'))
    install("sleepy", "import time\ntime.sleep(1.1)\n" + GOOD.replace('"sharpen"', '"sleep"'))
    site = tmp_path / "site"

    listed = command(site, "list", "operators", "--json")
    assert listed.returncode == 0, listed.stderr
    names = [c["name"] for c in json.loads(listed.stdout)]
    assert {"gaussian_blur", "sharpen", "chat", "sleep"} <= set(names)
    assert names.count("sharpen") == 2

    report = command(site, "plugins")
    assert report.returncode == 0, report.stderr
    lines = report.stdout.splitlines()
    for name, (_, error, remedy) in BROKEN.items():
        start = f"bad-{name.replace(' ', '-')}:main"
        (row,) = [line for line in lines if line.split()[:1] == [start]]
        assert row.split()[1:3] == ["1.2", "broken"]
        (said,) = [line for line in lines if line.startswith(f"{start}: ")]
        assert error in said
        assert remedy in said
    text = report.stdout
    assert (
        "gone-away:main: ModuleNotFoundError: No module named 'gone_away'; its own module is not there"
        in text
    )
    assert "other-host:main: other-host 1.2 asks for daps-kit >=99, this is daps-kit" in text
    assert "chatty:main: it printed while it was imported: hello" in text
    assert re.search(r"sleepy:main: its import takes 1\.[1-9] s of every command", text)

    shown = command(site, "show", "operator/sharpen")
    assert shown.returncode == 2
    assert "(first 1.2, second 1.2): write first/sharpen or second/sharpen" in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "variables"),
    [(["--no-plugins"], {}), ([], {"DAPS_KIT_DISABLE": "*"}), ([], {"DAPS_KIT_DISABLE": "Bad_One,sleepy"})],
    ids=["flag", "all", "by name"],
)
def test_what_is_switched_off_is_not_imported(
    install: Install, tmp_path: Path, words: list[str], variables: dict[str, str]
) -> None:
    for name in ("bad-one", "sleepy"):
        install(name, f"open({str(tmp_path / name)!r}, 'w').close()\n" + GOOD)
    report = command(tmp_path / "site", *words, "plugins", "--json", **variables)
    status = {p["distribution"]: p["status"] for p in json.loads(report.stdout)}
    assert status["bad-one"] == status["sleepy"] == "disabled"
    assert status["daps-kit"] == "ok"
    assert not (tmp_path / "bad-one").exists()
    assert not (tmp_path / "sleepy").exists()


@pytest.mark.parametrize("component", default_registry().components(), ids=lambda c: f"{c.kind}-{c.name}")
def test_the_builtin_settings_follow_the_rules(component) -> None:
    assert check_settings(component.kind, component.settings) is component.settings
    assert component.settings.summary().endswith(".")
