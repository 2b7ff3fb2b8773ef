"""The plan of the house: who may import whom, by folder, and what the host must not know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Context

from daps_kit.command.main import main
from tests.house import ROOT, Import, circles, floors, imports, modules, room

PACKAGES = ("daps_kit", "operators/daps_operators", "priors/daps_priors", "samplers/daps_samplers")
HOST = ROOT / "daps_kit"
FRONT_DOORS = ("daps_kit", "daps_kit.__main__")
"""The face of the package loads what it shows when that is used; `python -m daps_kit` is the command."""


GROUND_FLOOR = {"noise", "reading"}
"""Its rooms of more than one file."""
WINGS = {
    f"daps_kit.{file.parent.name}"
    for file in HOST.glob("*/__init__.py")
    if file.parent.name not in GROUND_FLOOR
}
"""What commands do; a plugin stands on the ground floor."""


@pytest.fixture(scope="module")
def arrows() -> list[Import]:
    return imports(HOST)


def test_the_ground_floor_stands_on_no_wing(arrows: list[Import]) -> None:
    """What is imported when `build` or `sample` is called from Python is no part of the house that plugins see."""
    found = {
        (arrow.source, arrow.when)
        for arrow in arrows
        if room(arrow.source) not in WINGS and arrow.source not in FRONT_DOORS and room(arrow.target) in WINGS
    }
    assert found <= {("daps_kit.api", "late"), ("daps_kit.api", "types")}
    assert {"daps_kit.command", "daps_kit.recipe", "daps_kit.runs"} < WINGS


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_imports(package: str) -> None:
    """Not even late, or for types alone: a settings class hands its implementation plain values."""
    found = {(arrow.source, arrow.target) for arrow in imports(ROOT / package)}
    assert len(found) > 10
    assert circles({arrow for arrow in found if not set(arrow) & set(FRONT_DOORS)}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_wing_says_what_it_is_for(package: str) -> None:
    for file in (ROOT / package).rglob("__init__.py"):
        assert file.read_text(encoding="utf-8").lstrip().startswith(('"""', 'r"""')), file


def test_a_command_is_a_file_of_its_name() -> None:
    helpers = {"__init__", "interrupt", "main", "options", "start", "terminal"}
    files = {file.stem for file in (HOST / "command").glob("*.py")} - helpers
    names = main.list_commands(Context(main))
    assert {name.replace("-", "_") for name in names} == files
    for name in names:
        command = main.get_command(Context(main), name)
        assert command is not None
        assert command.name == name


def test_the_host_knows_no_model_and_no_data_set_by_name() -> None:
    names = re.compile(r"ffhq|imagenet|bkse|stable.diffusion", re.IGNORECASE)
    torchvisions_own = "Inception_V3_Weights.IMAGENET1K_V1"
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in HOST.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if names.search(line.replace(torchvisions_own, ""))
    ]
    assert found == []


def test_no_rule_lists_files() -> None:
    """A rule for folders holds for the files to come."""
    rules = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'"(?:daps_kit|operators|priors|samplers)/[\w/]*\w\.py"', rules) == []


# --- the counter itself


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """a -> wing.b -> c, which has a late import of a and one of wing for its types."""
    files = {
        "__init__.py": "",
        "a.py": "from .wing.b import x\nimport os\n",
        "wing/__init__.py": "from pack import c\n",
        "wing/b.py": "from typing import TYPE_CHECKING\nfrom ..c import y\nfrom . import b\n",
        "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pack.wing\n"
        "def f():\n    from pack.a import x\n",
    }
    for name, text in files.items():
        (tmp_path / "pack" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pack" / name).write_text(text)
    return tmp_path / "pack"


def test_imports_are_found(package: Path) -> None:
    assert set(modules(package)) == {"pack", "pack.a", "pack.wing", "pack.wing.b", "pack.c"}
    assert set(imports(package)) == {
        Import("pack.a", "pack.wing.b", "module"),
        Import("pack.wing", "pack.c", "module"),
        Import("pack.wing.b", "pack.c", "module"),
        Import("pack.c", "pack.wing", "types"),
        Import("pack.c", "pack.a", "late"),
    }
    assert room("pack.wing.b") == "pack.wing"


def test_floors_and_circles() -> None:
    assert floors(set("abcd"), {("a", "b"), ("b", "c"), ("a", "c")}) == 3
    round_trip = {("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}
    assert circles(round_trip) == [{"b", "c"}]
    assert floors(set("abcd"), round_trip) == 3
    assert circles({("a", "b"), ("a", "c")}) == []
