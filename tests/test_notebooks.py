"""The notebooks run from the first cell to the last, and begin by installing what they need."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["customisation", "demo"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_the_wheel_beside_it_or_says_what_to_upload(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name not in asked else "found")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    magic = "%pip install -q {package} matplotlib"
    assert magic in first
    cell = compile(first.replace(magic, "install(package)"), path.name, "exec")

    with pytest.raises(ImportError, match="upload its wheel"):
        exec(cell, {"install": asked.append})
    assert asked == ["daps-kit"]
    (tmp_path / "daps_kit-0.1.0-py3-none-any.whl").touch()
    exec(cell, {"install": lambda package: asked.extend([package, "daps_kit"])})
    assert asked[1] == "daps_kit-0.1.0-py3-none-any.whl"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "%pip install" in code[0].source
    assert all(not cell.outputs for cell in code), "keep notebooks without results"
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3
