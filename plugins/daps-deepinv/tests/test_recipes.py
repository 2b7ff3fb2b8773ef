"""The recipes that come with the plugin, and the code of its page."""

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from daps_kit.command.main import main

HERE = Path(__file__).parents[1]
RECIPES = sorted((HERE / "recipes").glob("*.yaml"))
PAGE = (HERE.parents[1] / "docs" / "deepinv.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.filterwarnings("ignore")  # deepinv's own deprecations


def test_they_are_all_here():
    assert len(RECIPES) == 7
    assert all(recipe.stem in PAGE for recipe in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(recipe, tmp_path):
    small = ["runs=1", "sampler.annealing.levels=2", f"output={tmp_path / 'out'}", "data.size=64"]
    result = CliRunner().invoke(main, ["run", str(recipe), *small])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "grid.png").is_file()


def test_the_page_shows_the_recipe():
    shown = re.search(r"mri.yaml`:\n\n```yaml\n(.*?)```", PAGE, re.S)
    written = (HERE / "recipes" / "mri.yaml").read_text(encoding="utf-8")
    assert shown is not None
    assert shown[1] == written[written.index("format:") :]


def test_the_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(import deepinv\n.*?)```", PAGE, re.S)
    names = {"u": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    exec(code.replace("runs=8", "{'use': 'daps', 'budget': 4}, runs=2"), names)
    assert names["samples"].shape == (1, 2, 3, 64, 64)
    assert names["mean"].shape == (1, 3, 64, 64)
