"""The recipes that come with the plugin, and the code of its page."""

import re
from pathlib import Path

import deepinv
import numpy as np
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


def code_of_the_page() -> list[str]:
    """Return the blocks of Python of the page, with few samples."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    return [code.replace("runs=8", "{'use': 'daps', 'budget': 4}, runs=2") for code in blocks]


def test_an_operator_of_physics_is_made_as_the_page_shows(tmp_path, monkeypatch):
    """The measurement that it writes is that of the images of the recipe's scale, and the recipe beside it runs."""
    monkeypatch.chdir(tmp_path)
    mask = (torch.rand(256, generator=torch.Generator().manual_seed(0)) < 0.5).float().expand(256, 256)
    np.save("mask.npy", mask.numpy())
    noise = deepinv.physics.GaussianNoise(0.01)
    physics = deepinv.physics.MRI(mask=mask, img_size=(2, 256, 256), noise_model=noise)
    u = torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(1))
    names = {"physics": physics, "y_d": physics.A(torch.cat([u, 0 * u], 1))}
    code, _ = code_of_the_page()
    exec(code, names)
    wanted = names["operator"].forward(2 * u - 1)
    assert wanted.abs().max() > 0.1
    assert torch.allclose(torch.from_numpy(np.load("y.npy")), wanted, atol=1e-5)
    (data,) = re.findall(r"# (data: \{.*\})", code)
    Path("mine.yaml").write_text(
        f"format: 1\n{data}\nprior: {{use: gaussian}}\nsampler: {{use: daps, budget: 3}}\nruns: 1\n"
        "operator: {use: deepinv, physics: MRI, arguments: {mask: {file: mask.npy}}, noise: {use: GaussianNoise, sigma: 0.01}}\n"
    )
    result = CliRunner().invoke(main, ["run", "mine.yaml", "output=out"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "grid.png").is_file()


def test_the_reconstructor_of_the_page_runs():
    _, code = code_of_the_page()
    names = {"u": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    exec(code, names)
    assert names["samples"].shape == (1, 2, 3, 64, 64)
    assert names["mean"].shape == (1, 3, 64, 64)
