"""The command line, as its users meet it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import daps_kit
from tests.host.command_line import call, ok
from tests.plugin_files import RECIPE, write_plugin


def test_help_and_version() -> None:
    text = ok("--help")
    for command in ("run", "check", "list", "show", "plugins", "schema", "recipes"):
        assert f"  {command} " in text
        assert ok(command, "--help").startswith("Usage: ")
    assert ok("-h") == text
    assert ok("--version") == f"daps-kit, version {daps_kit.__version__}\n"


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


@pytest.mark.parametrize(("into", "code"), [("> /dev/full", 2), (">&- 2>&-", 0)])
def test_what_cannot_be_printed(tmp_path: Path, into: str, code: int) -> None:
    """A disk that is full, or nothing where to print: a line, or nothing where nobody can be told."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = f"exec {sys.executable} -c 'from daps_kit.command.start import main; main()' recipes {into}"
    found = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, check=False
    )
    said = "error: cannot write what is printed: No space left on device\n" if into == "> /dev/full" else ""
    assert (found.returncode, found.stderr.decode()) == (code, said)


def test_what_is_no_mistake_of_the_user_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daps_kit.command.check.load_recipe", lambda *_: 1 / 0)
    assert isinstance(call("check", "good.yaml").exception, ZeroDivisionError)


def test_control_c_leaves_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("daps_kit.command.check.load_recipe", interrupt)
    result = call("check", "good.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "stopped\n")


def test_a_working_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = call("check", "embedded/inpainting")
    assert result.exit_code == 2
    assert result.stderr == "error: the working folder cannot be used: No such file or directory\n"


def test_a_file_of_python_is_a_plugin_of_a_command(folder: Path) -> None:
    write_plugin(folder)
    option = ("--plugin", "my_operator.py")
    assert "my_operator.py" in ok("list", "operators", *option)
    assert "share of the light that is lost" in ok("show", "operator/dim", *option)
    assert "my_operator.py/dim" in ok("schema", *option)
    Path("mine.yaml").write_text(RECIPE.replace("plugins: [my_operator.py]\n", ""))
    assert "unknown operator 'dim'" in call("check", "--quick", "mine.yaml").stderr
    assert "valid" in ok("check", "--quick", "mine.yaml", *option)
    assert f"plugins: [{folder / 'my_operator.py'}]" in ok("check", "--resolved", "mine.yaml", *option)
    assert re.fullmatch(
        r"operator/dim: \d+ passed, 1 skipped\n", ok("plugins", "--check", "operator/dim", *option)
    )
    assert "dim" not in ok("list", "operators")


def test_a_file_that_does_not_work_is_a_line(folder: Path) -> None:
    write_plugin(folder, "1 / 0\n")
    result = call("list", "--plugin", "my_operator.py")
    assert result.exit_code == 2
    assert "line 1: ZeroDivisionError: division by zero (put" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_shell_completes_commands_recipes_and_components(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    program = tmp_path / "bin" / "daps-kit"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nfrom daps_kit.command.main import main\nmain(prog_name='daps-kit')\n"
    )
    program.chmod(0o755)
    ask = (
        'eval "$(_DAPS_KIT_COMPLETE=bash_source daps-kit)"; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
        'COMP_LINE=$1; _daps_kit_completion daps-kit; echo "${COMPREPLY[@]}"'
    )

    def completed(line: str) -> list[str]:
        paths = os.pathsep.join([str(program.parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": paths, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [bash, "--norc", "-c", ask, "bash", line],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert completed("daps-kit che") == ["check", "check-prior", "checkpoints"]
    assert completed("daps-kit run quick") == ["quickstart"]
    assert completed("daps-kit show operator/ga") == ["operator/gaussian_blur"]
