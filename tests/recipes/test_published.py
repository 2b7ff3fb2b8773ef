"""The recipes of the published runs: all there, valid without checkpoints, and with the settings that were published."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from pathlib import Path

import pytest

from daps_kit.recipe import Recipe, installed_recipes, load_recipe, plain
from daps_kit.registry import default_registry

TASKS = (
    "down_sampling", "gaussian_blur", "motion_blur", "inpainting_box", "inpainting_random", "phase_retrieval",
    "nonlinear_blur", "high_dynamic_range",
)  # fmt: skip

PRIORS = {
    "ffhq256ddpm": ("ddpm", "ffhq256"),
    "imagenet256ddpm": ("ddpm", "imagenet256"),
    "ffhq256ldm": ("ldm", "ffhq256"),
    "imagenet256ldm": ("ldm", "imagenet256"),
    "stable-diffusion-v1.5": ("stable_diffusion", "v1.5"),
    "stable-diffusion-v2.1": ("stable_diffusion", "v2.1"),
}
PIXEL, LDM, SD = tuple(PRIORS)[:2], tuple(PRIORS)[2:4], tuple(PRIORS)[4:]

# steps, lr, lr_min_ratio and (but for Langevin) momentum, as published.
LANGEVIN = {
    "down_sampling": (100, 1e-4, 0.01), "gaussian_blur": (100, 1e-4, 0.01), "motion_blur": (100, 5e-5, 0.01),
    "inpainting_box": (100, 5e-5, 0.01), "inpainting_random": (100, 1e-4, 0.01), "phase_retrieval": (100, 5e-5, 0.01),
    "nonlinear_blur": (200, 1e-5, 0.01), "high_dynamic_range": (100, 2e-5, 0.01),
}  # fmt: skip
HMC_PIXEL = {
    "down_sampling": (12, 1.04e-4, 0.012, 0.90), "gaussian_blur": (82, 4.04e-5, 0.011, 0.10),
    "motion_blur": (96, 3.69e-5, 0.01, 0.11), "inpainting_box": (84, 1.15e-5, 0.014, 0.003),
    "inpainting_random": (11, 3.56e-5, 0.015, 0.80), "phase_retrieval": (62, 9.75e-6, 0.019, 0.73),
    "nonlinear_blur": (85, 1.20e-5, 0.012, 0.46), "high_dynamic_range": (100, 2.18e-5, 0.013, 0.23),
}  # fmt: skip
HMC_LDM = {
    "down_sampling": (24, 1.35e-4, 0.023, 0.86), "gaussian_blur": (35, 2.70e-6, 0.95, 0.95),
    "motion_blur": (49, 2.4e-5, 0.041, 0.45), "inpainting_box": (15, 9.02e-6, 0.13, 0.74),
    "inpainting_random": (38, 8.40e-6, 0.013, 0.92), "phase_retrieval": (65, 2.1e-5, 0.12, 0.41),
    "nonlinear_blur": (80, 3.71e-6, 0.024, 0.91), "high_dynamic_range": (38, 4.52e-6, 0.015, 0.58),
}  # fmt: skip
HMC_SD = {
    "down_sampling": (30, 1e-4, 1, 0.45), "gaussian_blur": (40, 1e-5, 1, 0.9), "motion_blur": (30, 2e-5, 1, 0.85),
    "inpainting_box": (58, 1.11e-6, 0.43, 0.92), "inpainting_random": (15, 3e-5, 1, 0.60),
    "phase_retrieval": (95, 1.10e-4, 0.027, 0.47), "nonlinear_blur": (60, 1e-5, 1, 0.80),
    "high_dynamic_range": (45, 1.0e-5, 1, 0.7),
}  # fmt: skip

OPERATORS = {
    "down_sampling": {"use": "down_sampling", "scale_factor": 4},
    "gaussian_blur": {"use": "gaussian_blur", "kernel_size": 61, "intensity": 3.0},
    "motion_blur": {"use": "motion_blur", "kernel_size": 61, "intensity": 0.5},
    "inpainting_box": {"use": "inpainting", "mask": "box", "mask_len_range": (128, 129), "margin": 32},
    "inpainting_random": {"use": "inpainting", "mask": "random", "mask_prob_range": (0.70, 0.71)},
    "phase_retrieval": {"use": "phase_retrieval", "oversample": 2.0},
    "nonlinear_blur": {"use": "nonlinear_blur", "weights": "published", "kernel": "published", "kernel_scale": 1.2},
    "high_dynamic_range": {"use": "high_dynamic_range", "scale": 2.0},
}  # fmt: skip


def kernels(model: str) -> dict[str, tuple[float, ...]]:
    return LANGEVIN if model in PIXEL else HMC_LDM if model in LDM else HMC_SD


def test_they_are_all_there() -> None:
    """Six models with eight tasks; pixel models also with the other kernel, and with two other budgets."""
    found = [name for name in installed_recipes() if name.split("/")[0] in PRIORS]
    expected = {f"{model}/{task}" for model in PRIORS for task in TASKS}
    expected |= {f"{model}/hmc/{task}" for model in PIXEL for task in TASKS}
    expected |= {f"{model}/{budget}" for model in PIXEL for budget in ("daps-100", "daps-4k")}
    assert set(found) == expected
    assert len(found) == 6 * 8 + 2 * 8 + 2 * 2
    assert Counter(name.split("/")[0] for name in found) == {
        model: 18 if model in PIXEL else 8 for model in PRIORS
    }


def agrees(
    recipe: Recipe, model: str, task: str, kernel: dict[str, tuple[float, ...]], budget: tuple[int, int]
) -> None:
    """Compare a recipe with what was published."""
    assert (recipe.prior.name, recipe.prior.model_dump()["model"]) == PRIORS[model]
    operator = recipe.operator.model_dump()
    expected = OPERATORS[task]
    assert recipe.operator.name == expected["use"]
    assert {key: operator[key] for key in expected if key != "use"} == {
        key: value for key, value in expected.items() if key != "use"
    }
    sigma = 0.01 if model in SD else 0.05
    noise = plain(recipe.operator.noise, default_registry())
    assert noise == {"use": "gaussian", "sigma": sigma, "quantised": None, "clipped": None}
    assert recipe.runs == (4 if task == "phase_retrieval" else 1)

    sampler = recipe.sampler.model_dump()
    levels, steps = budget
    annealing, ode = sampler["annealing"], sampler["ode"]
    assert (annealing["use"], annealing["rho"], annealing["levels"]) == ("edm", 7.0, levels)
    assert (annealing["sigma_max"], annealing["sigma_min"]) == (100 if model in PIXEL else 10, 0.1)
    assert not annealing["reach_sigma_min"]
    assert (ode["use"], ode["rho"], ode["steps"], ode["solver"]) == ("edm", 7.0, steps, "euler")
    assert ode["sigma_min"] == (0.01 if model in PIXEL else 0.001)
    assert not ode["denoise"]
    assert (sampler["prior_score"], sampler["spread"], sampler["final_denoise"]) == (
        "gaussian",
        "sigma",
        False,
    )
    assert sampler["latent_gradient_clip"] == (None if model in PIXEL else 1)

    given = recipe.sampler.kernel  # type: ignore[attr-defined]
    names = ("steps", "lr", "lr_min_ratio", "momentum")[: len(kernel[task])]
    assert given.name == ("underdamped" if "momentum" in names else "langevin")
    assert tuple(getattr(given, name) for name in names) == kernel[task]
    assert given.reach_lr_min is False
    # Without the published gradient's missing 1/2.
    assert given.tau == pytest.approx(0.01 / sqrt(2), rel=1e-7)


@pytest.mark.parametrize("model", PRIORS)
def test_the_eight_tasks_of_a_model(model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache is empty: that a recipe is valid does not depend on what has been fetched."""
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path))
    for task in TASKS:
        (recipe,) = load_recipe(f"{model}/{task}")
        agrees(recipe, model, task, kernels(model), (200, 5) if model in PIXEL else (50, 2))


@pytest.mark.parametrize("model", PIXEL)
def test_hmc(model: str) -> None:
    for task in TASKS:
        (recipe,) = load_recipe(f"{model}/hmc/{task}")
        agrees(recipe, model, task, HMC_PIXEL, (200, 5))


@pytest.mark.parametrize("model", PIXEL)
@pytest.mark.parametrize(("name", "budget"), [("daps-100", (50, 2)), ("daps-4k", (400, 10))])
def test_other_budgets(model: str, name: str, budget: tuple[int, int]) -> None:
    recipes = load_recipe(f"{model}/{name}")
    assert [recipe.output.name for recipe in recipes] == list(TASKS)
    for task, recipe in zip(TASKS, recipes, strict=True):
        agrees(recipe, model, task, LANGEVIN, budget)


def test_what_the_latent_priors_are() -> None:
    for model in SD:
        prior = load_recipe(f"{model}/down_sampling")[0].prior.model_dump()
        assert (prior["guidance"], prior["prompt"]) == (7.5, "a natural looking image")
        assert (prior["inner_resolution"], prior["resolution"]) == (
            512 if model.endswith("1.5") else 768,
            256,
        )
    for model in LDM:
        prior = load_recipe(f"{model}/down_sampling")[0].prior.model_dump()
        assert (prior["label"], prior["guidance"]) == (None, 1.0)


def test_results_lie_apart() -> None:
    names = [name for name in installed_recipes() if name.split("/")[0] in PRIORS]
    outputs = [recipe.output for name in names for recipe in load_recipe(name)]
    assert len(set(outputs)) == len(outputs) == 6 * 8 + 2 * 8 + 2 * 2 * 8


def test_images_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (recipe,) = load_recipe("ffhq256ddpm/down_sampling", [f"data.path={tmp_path}", "data.limit=1"])
    assert recipe.data.files == [tmp_path / "a.png"]  # type: ignore[union-attr]
