"""The published numbers are of the tasks that the installed recipes measure."""

from __future__ import annotations

from daps_kit.published import METRICS, MODELS, NUMBERS, TASKS
from daps_kit.recipe import load_recipe, plain
from daps_kit.registry import default_registry


def test_every_published_task_is_what_the_installed_recipes_measure() -> None:
    for model in MODELS.values():
        for task, wanted in TASKS.items():
            (recipe,) = load_recipe(f"{model}/{task}")
            operator = plain(recipe.operator, default_registry())
            same = {key: value for key, value in wanted.items() if operator[key] == value}
            differs = {"noise"} if model.startswith("stable") else set()
            assert set(wanted) - set(same) == differs, (model, task)


def test_what_the_paper_reports() -> None:
    assert {model for model, _ in NUMBERS} == {"ffhq256ddpm", "imagenet256ddpm", "ffhq256ldm"}
    assert all(tuple(found) in (METRICS, METRICS[:1]) for found in NUMBERS.values())
    assert len(NUMBERS) == 3 * 8
    assert NUMBERS["ffhq256ddpm", "motion_blur"]["fid_torchvision"] == 39.5
    assert NUMBERS["imagenet256ddpm", "phase_retrieval"] == {"psnr": 25.78}
    assert NUMBERS["ffhq256ldm", "high_dynamic_range"] == {"psnr": 25.94}
