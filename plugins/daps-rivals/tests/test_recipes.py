"""The recipes with the authors' numbers, the page that lists the samplers, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import daps_rivals
import pytest
import torch
from PIL import Image

from daps_kit import UserError, build, sample
from daps_kit.compare.document import load_comparison
from daps_kit.papers import bibtex
from daps_kit.recipe import load_recipe

HERE = Path(__file__).parents[1]
RECIPES = sorted((HERE / "recipes").glob("*.yaml"))
PAGE = (HERE.parents[1] / "docs" / "arena.md").read_text(encoding="utf-8")
SAMPLERS = {settings.name: settings for settings in daps_rivals.daps_samplers()}


def test_there_are_recipes():
    assert len(RECIPES) == 19


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_named_after_what_it_does(path):
    (recipe,) = load_recipe(path)
    assert path.stem.startswith(f"{recipe.sampler.name}-")
    assert f"daps-kit run {path.name}" in path.read_text(encoding="utf-8")


def test_the_page_lists_every_sampler():
    table = PAGE[: PAGE.index("## Cost")]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.M)) == sorted(SAMPLERS)


def test_every_sampler_has_its_citation_and_the_page_links_its_paper():
    for name, settings in SAMPLERS.items():
        assert settings.papers[0].arxiv in PAGE
        for paper in settings.papers:
            assert f"@{paper.kind}{{{paper.key}," in bibtex(settings.papers), name


def test_the_comparisons_of_the_page_and_of_the_benchmarks_are_valid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "faces" / "a.png")
    (tmp_path / "validation").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "validation" / "b.png")
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    for place, block in enumerate(blocks):
        (tmp_path / f"{place}.yaml").write_text(block)
        assert len(load_comparison(tmp_path / f"{place}.yaml").cells) == 8
    assert blocks
    arena = HERE.parents[1] / "benchmarks" / "arena"
    for name, tasks, budgets in (("small", 8, 1), ("whole", 8, 2), ("posteriors", 8, 2)):
        images = [] if name == "posteriors" else ["images.path=faces"]
        found = load_comparison(arena / f"{name}.yaml", images)
        names = {cell.sampler for cell in found.cells}
        assert len(found.cells) == tasks * budgets * len(names)
        assert names >= set(SAMPLERS) - {"psld", "latino", "resample", "tv"}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_budget_is_the_calls_of_a_sample(name):
    from daps_kit.contracts import GaussianNoise
    from daps_kit.runs.draw import draw
    from daps_kit.testing.base import orthogonal
    from daps_kit.testing.problems import DenseOperator, DensePrior

    prior = DensePrior(torch.zeros(16), torch.eye(16))
    operator = DenseOperator(orthogonal(1, 16)[:8], GaussianNoise(0.1))
    drawn = draw(
        build("sampler", {"use": name, "budget": 21}), prior, operator, torch.zeros(2, 1, 1, 8), [1, 2]
    )
    assert {"wiener": 1, "tv": 0}.get(name, 0.5 * 21) <= drawn.cost.calls <= 21


@pytest.mark.parametrize(
    "name",
    [
        "pigdm",
        "ddrm",
        "ddnm",
        "diffpir",
        "mmps",
        "tmpd",
        "pnp_dm",
        "pnp_hqs",
        "wiener",
        "tv",
        "mcgdiff",
        "ddsmc",
        "fps_smc",
        "pnp_admm",
        "red",
        "psld",
        "latino",
    ],
)
def test_what_is_not_linear_is_refused(name):
    prior = build("prior", {"use": "gaussian"})
    operator = build("operator", {"use": "phase_retrieval"}, shape=(3, 8, 8))
    with pytest.raises(
        UserError, match=f"^sampler: {name} needs a linear operator, and PhaseRetrieval is not one$"
    ):
        sample(prior, operator, operator.forward(torch.zeros(1, 3, 8, 8)), sampler={"use": name})


def test_noise_that_is_not_gaussian_is_refused():
    prior = build("prior", {"use": "gaussian"})
    operator = build("operator", {"use": "identity", "noise": {"use": "poisson"}}, shape=(3, 8, 8))
    with pytest.raises(
        UserError, match="needs Gaussian noise of one standard deviation, and this is Poisson"
    ):
        sample(prior, operator, torch.zeros(1, 3, 8, 8), sampler={"use": "pigdm"})
