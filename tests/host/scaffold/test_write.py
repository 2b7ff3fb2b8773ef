"""What `daps-kit new` writes installs, passes its tests and shows in `daps-kit list` as it stands."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner

from daps_kit.command.new import command as new
from daps_kit.errors import UserError
from daps_kit.registry import Registry
from daps_kit.scaffold.templates import KINDS
from daps_kit.scaffold.write import Names, render, write_plugin

NAMES = {
    "operator": "vignette",
    "noise": "logistic",
    "prior": "power-law",
    "kernel": "adjusted",
    "sampler": "daps-exact_draws",
}
EMPTY = Registry()


def test_there_is_a_template_for_every_kind_that_is_checked():
    from daps_kit.testing import CHECKS

    assert set(NAMES) == set(KINDS) == set(CHECKS)


@pytest.mark.parametrize(
    ("given", "name", "distribution", "class_name"),
    [
        ("my_blur", "my_blur", "daps-my-blur", "MyBlur"),
        ("daps-my-blur", "my_blur", "daps-my-blur", "MyBlur"),
        ("Bayer2x2", "bayer2x2", "daps-bayer2x2", "Bayer2x2"),
    ],
)
def test_one_name_gives_all_others(given, name, distribution, class_name):
    names = Names.of(given)
    assert (names.name, names.distribution, names.class_name) == (name, distribution, class_name)
    assert names.module == f"daps_{name}"


@pytest.mark.parametrize(
    "name", ["", "2x", "a b", "a--b", "_x", "x_", "../x", "ünder", "daps-", "lambda", "kit", "kernel"]
)
def test_names_that_cannot_be(name, tmp_path):
    with pytest.raises(UserError, match="cannot be a name"):
        write_plugin("operator", name, tmp_path, EMPTY)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken(tmp_path):
    with pytest.raises(UserError, match="operator 'inpainting' is there already, from daps-kit"):
        write_plugin("operator", "inpainting", tmp_path)


def test_nothing_is_written_over(tmp_path):
    root = write_plugin("operator", "mine", tmp_path, EMPTY)
    (root / "README.md").write_text("my own words")
    with pytest.raises(UserError, match="exists already"):
        write_plugin("prior", "mine", tmp_path, EMPTY)
    assert (root / "README.md").read_text() == "my own words"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_plugin("operator", "mine", tmp_path / "file", EMPTY)


@pytest.mark.parametrize("kind", list(NAMES))
def test_files_are_complete_and_nothing_is_left_to_fill_in(kind):
    names = Names.of(NAMES[kind])
    files = render(kind, names)
    assert set(files) == {
        "pyproject.toml",
        "README.md",
        "recipe.yaml",
        f"{names.module}/__init__.py",
        f"{names.module}/{names.name}.py",
        f"tests/test_{names.name}.py",
    }
    for path, text in files.items():
        assert "$" not in text, path
        assert text.endswith("\n"), path
        assert "TODO" not in text, path
        if path.endswith(".py"):
            ast.parse(text)
            assert max(map(len, text.splitlines())) <= 120, path


def test_the_command_says_what_comes_next(tmp_path):
    result = CliRunner().invoke(new, ["operator", "my-blur", "--folder", str(tmp_path)])
    assert result.exit_code == 0
    assert "pip install -e" in result.output
    assert (tmp_path / "daps-my-blur" / "daps_my_blur" / "my_blur.py").is_file()


# --- the real thing: pip, a fresh environment, pytest


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a fresh environment, which sees what is installed beside this one."""
    root = tmp_path_factory.mktemp("fresh") / "venv"
    venv.EnvBuilder(with_pip=False, system_site_packages=True).create(root)
    python = root / ("Scripts" if os.name == "nt" else "bin") / "python"
    sites = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    asked = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # addsitedir, unlike a plain path, also follows the .pth files there, such as that of an editable install.
    lines = [f"import site; site.addsitedir({site!r})" for site in sorted(sites)]
    Path(asked.stdout.strip(), "outer.pth").write_text("\n".join(lines) + "\n")
    return python


def run(*command: str | Path, folder: Path) -> str:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DAPS_KIT_DISABLE")
    }
    environment |= {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(NAMES))
def test_it_installs_passes_its_tests_and_is_listed(kind, fresh, tmp_path):
    root = write_plugin(kind, NAMES[kind], tmp_path, EMPTY)
    names = Names.of(NAMES[kind])
    pip = [sys.executable, "-m", "pip", "--python", fresh, "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, "--no-build-isolation", root, folder=tmp_path)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cli = [fresh, "-c", "from daps_kit.command.main import main; main()"]
    listed = json.loads(run(*cli, "list", f"{kind}s", "--json", folder=elsewhere))
    mine = [c for c in listed if c["name"] == names.name]
    assert [c["distribution"] for c in mine] == [names.distribution]
    run(*cli, "check", root / "recipe.yaml", folder=elsewhere)

    where = run(fresh, "-c", f"import {names.module}; print({names.module}.__file__)", folder=elsewhere)
    assert fresh.parents[1] in Path(where.strip()).parents, "it is the installed package that is tested"
    report = run(fresh, "-m", "pytest", "-q", "-p", "no:cacheprovider", root, folder=elsewhere)
    assert " passed" in report
    assert "failed" not in report
