"""The published numbers against the paper, and their tasks against the recipes that are installed."""

from __future__ import annotations

from daps_kit.recipe import load_recipe, plain
from daps_kit.registry import default_registry
from daps_kit.runs.published import Published, published


def test_every_published_task_is_what_the_installed_recipes_measure() -> None:
    for model in published().models:
        for task, wanted in published().tasks.items():
            (recipe,) = load_recipe(f"{model}/{task}")
            operator = plain(recipe.operator, default_registry())
            operator["noise"] = {key: value for key, value in operator["noise"].items() if value is not None}
            same = {key: value for key, value in wanted.items() if operator[key] == value}
            differs = {"noise"} if model.startswith("stable") else set()
            assert set(wanted) - set(same) == differs, (model, task)


def test_what_the_paper_reports() -> None:
    found = published()
    assert set(found.numbers) == {"ffhq256ddpm", "imagenet256ddpm", "ffhq256ldm"}
    for tasks in found.numbers.values():
        assert list(tasks) == list(found.tasks)
        assert {len(numbers) for numbers in tasks.values()} <= {1, len(found.metrics)}
    assert found.means("ffhq256ddpm", "motion_blur")["fid_torchvision"] == 39.5
    assert found.means("imagenet256ddpm", "phase_retrieval") == {"psnr": 25.78}
    assert found.means("ffhq256ldm", "high_dynamic_range") == {"psnr": 25.94}
    assert found.means("stable-diffusion-v1.5", "motion_blur") == {}


def test_which_task_an_operator_is() -> None:
    noise = {"use": "gaussian", "sigma": 0.1}
    blur = {"use": "blur", "noise": noise}
    found = Published(tasks={"deblurring": blur}, models={"faces": {"use": "net", "model": "a"}})
    assert found.task({**blur, "border": "reflect"}) == ("deblurring", True)
    assert found.task({**blur, "noise": {**noise, "clipped": None}}) == ("deblurring", True)
    assert found.task({**blur, "noise": {**noise, "clipped": [-1, 1]}}) == ("deblurring", False)
    assert found.task({"use": "blur"}) == ("deblurring", False)
    assert found.task({"use": "mask"}) == ("mask", True)
    assert [found.model({"use": "net", "model": model}) for model in "ab"] == ["faces", "net"]
