"""What is imported when: commands that only look must not wait for torch, and the layers stay apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daps_kit import __version__

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "scipy", "PIL", "numpy", "safetensors")
COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "list": ["list"],
    "show": ["show", "operator/gaussian_blur"],
    "check": ["check", "--quick", "embedded/phase_retrieval"],
    "plugins": ["plugins"],
    "recipes": ["recipes"],
    "schema": ["schema"],
    "runs": ["runs", str(ROOT / "tests" / "golden")],
}


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ, check=False
    )


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_commands_that_look_are_light(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom daps_kit.command.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as e:\n    code = e.code\n"
        f"print([m for m in {HEAVY} if m in sys.modules], code, file=sys.stderr)"
    )
    done = run(code, *arguments)
    assert done.stderr.splitlines()[-1] == "[] 0", done.stderr
    assert done.stdout


def seconds(code: str, *arguments: str) -> float:
    """Return the processor time of a program, the best of three: how busy the machine is does not count."""
    times = []
    for _ in range(3):
        before = os.times()
        assert run(code, *arguments).returncode == 0
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    return min(times)


def test_commands_that_look_take_under_a_second() -> None:
    code = "import sys\nfrom daps_kit.command.main import main\nmain(sys.argv[1:])"
    for name in ("help", "list", "show", "check"):
        assert seconds(code, *COMMANDS[name]) < 1.0, name


@pytest.mark.parametrize("module", ["daps_kit", "daps_operators", "daps_priors", "daps_samplers"])
def test_settings_are_light(module: str) -> None:
    done = run(f"import sys, {module}\nprint([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_names_of_the_package_are_loaded_when_used() -> None:
    import daps_kit

    assert callable(daps_kit.build)
    assert callable(daps_kit.sample)
    assert issubclass(daps_kit.UserError, Exception)
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        daps_kit.biuld  # noqa: B018


def test_the_names_of_the_package_are_shown_before_they_are_loaded() -> None:
    done = run("import sys, daps_kit\nprint(*dir(daps_kit))\nassert 'torch' not in sys.modules")
    assert {"build", "run", "sample", "UserError", "hookimpl"} <= set(done.stdout.split()), done.stderr


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "daps_kit", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(__version__)


def test_import_contracts() -> None:
    pytest.importorskip("importlinter")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("not in a checkout")
    code = "import sys\nfrom importlinter.cli import lint_imports_command as main\nmain(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--config", "pyproject.toml"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
