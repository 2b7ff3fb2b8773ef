"""What is in the wheel: a module or a recipe that is missing there would be missed only by users."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import daps_kit

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "daps_kit": "daps_kit",
    "daps_operators": "operators/daps_operators",
    "daps_priors": "priors/daps_priors",
    "daps_recipes": "recipes",
    "daps_samplers": "samplers/daps_samplers",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from, so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for part in ("daps_kit", "operators", "priors", "recipes", "samplers"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        if (ROOT / part).exists():
            shutil.copy(ROOT / part, source)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel."""
    pytest.importorskip("setuptools", reason="builds the wheel")
    target = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*command, "-w", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = target.glob("*.whl")
    return zipfile.ZipFile(file)


def test_every_file_is_in_the_wheel(source: Path, wheel: zipfile.ZipFile) -> None:
    built = {"build", "daps_kit.egg-info"}
    expected = {
        f"{name}/{file.relative_to(source / folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for file in (source / folder).rglob("*")
        if file.is_file() and not built & set(file.parts)
    }
    assert len(expected) > 60
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert expected - shipped == set()
    assert shipped - expected == set(), "what the wheel holds beside the packages"


def test_the_metadata(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {daps_kit.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata or "\nLicense: Apache-2.0\n" in metadata
    points = configparser.ConfigParser()
    points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert dict(points["daps_kit"]) == {
        "operators": "daps_operators", "priors": "daps_priors", "samplers": "daps_samplers",
    }  # fmt: skip
    assert dict(points["console_scripts"]) == {"daps-kit": "daps_kit.command.start:main"}


def test_setup_names_every_package(source: Path) -> None:
    """A sub-package vanishes from the wheel unless setup.cfg names it; the recipes are data but for their package."""
    setup = configparser.ConfigParser()
    setup.read(source / "setup.cfg")
    found = {
        ".".join((name, *file.parent.relative_to(source / folder).parts))
        for name, folder in PACKAGES.items()
        for file in (source / folder).rglob("__init__.py")
    }
    assert sorted(setup["options"]["packages"].split()) == sorted(found)
    for name, folder in PACKAGES.items():
        assert (source / folder / "py.typed").is_file() or name == "daps_recipes"
