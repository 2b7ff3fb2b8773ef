"""Settings of samplers and kernels: defaults, the published example, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

import daps_samplers
from daps_kit.errors import UserError
from daps_kit.recipe.sections import read_section
from daps_samplers import (
    HMC,
    MALA,
    Daps,
    Exact,
    Langevin,
    RandomiseThenOptimise,
    Underdamped,
)
from daps_samplers.auto import Auto as AutoKernel
from daps_samplers.schedules import EDM, VE, VP, TrigFlow


def test_the_published_recipe_validates():
    kernel = Langevin.model_validate({"steps": 100, "lr": 5.0e-5, "tau": 0.00707})
    sampler = Daps.model_validate(
        {
            "annealing": {"use": "edm", "levels": 200, "sigma_max": 100, "sigma_min": 0.1},
            "ode": {"steps": 5, "sigma_min": 0.01},
            "kernel": kernel,
        }
    ).build()
    assert sampler.annealing.levels == 200
    assert sampler.ode.steps == 5
    assert sampler.tau == 0.00707
    assert sampler.kernel.step_size.lr == 5e-5
    assert sampler.conditional.spread == "sigma"
    assert not sampler.final_denoise


def test_with_nothing_said_the_problem_decides():
    sampler = Daps().build()
    assert (sampler.ode.steps, sampler.conditional.spread, sampler.final_denoise) == (0, "calibrated", None)
    assert isinstance(sampler.kernel, AutoKernel)
    assert sampler.tau is None


@pytest.mark.parametrize(("use", "kind"), [("edm", EDM), ("ve", VE), ("vp", VP), ("trigflow", TrigFlow)])
def test_every_schedule_can_be_named(use, kind):
    sampler = Daps(annealing={"use": use}, ode={"use": use})
    assert isinstance(sampler.annealing.schedule(), kind)
    assert isinstance(sampler.ode.schedule(), kind)


def test_a_section_without_a_schedule_is_for_the_default():
    sampler = Daps(annealing={"levels": 3}, ode={"steps": 2})
    assert (sampler.annealing.use, sampler.ode.use) == ("auto", "edm")


def test_recipes_that_were_resolved_when_schedules_shared_their_parameters_are_read():
    every = {"rho": 7.0, "beta": "linear", "beta_min": 0.1, "beta_max": 20.0, "sigma_data": 1.0}
    for use in ("auto", "edm", "ve", "vp", "trigflow"):
        section = {"use": "daps", "annealing": {"use": use, **every, "levels": 4}}
        assert read_section("sampler", section) == Daps(annealing={"use": use, "levels": 4})
    with pytest.raises(UserError, match="annealing.rho: unknown key"):
        read_section("sampler", {"use": "daps", "annealing": {"use": "vp", "rho": 5.0}})


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        (Daps, {"annealing": {"levels": 0}}, "greater than or equal to 1"),
        (
            Daps,
            {"annealing": {"sigma_max": 0.1, "sigma_min": 0.1}},
            r"sigma_max \(0.1\) must be above sigma_min \(0.1\)",
        ),
        (Daps, {"annealing": {"sigma_min": 0.0}}, "greater than 0"),
        (Daps, {"annealing": {"use": "cosine"}}, "'auto', 'edm', 've', 'vp', 'trigflow'"),
        (Daps, {"annealing": {"use": "ve", "rho": 5.0}}, "Extra inputs"),
        (Daps, {"annealing": {"use": "vp", "beta_min": 30.0}}, "beta_max"),
        (Daps, {"ode": {"steps": -1}}, "greater than or equal to 0"),
        (Daps, {"ode": {"solver": "rk4"}}, "'euler' or 'heun'"),
        (Daps, {"ode": {"levels": 3}}, "Extra inputs"),
        (Langevin, {"steps": 0}, "greater than or equal to 1"),
        (Langevin, {"lr": -1e-4}, "greater than 0"),
        (Langevin, {"lr": "fast"}, "'auto'"),
        (Exact, {"accuracy": 0.0}, "greater than 0"),
        (RandomiseThenOptimise, {"newton_steps": 0}, "greater than or equal to 1"),
        (HMC, {"acceptance": 1.0}, "less than 1"),
        (MALA, {"leapfrog": 3}, "Extra inputs"),
        (Daps, {"budget": "slow"}, "'fast', 'balanced' or 'accurate'"),
        (Daps, {"budget": 1}, "greater than or equal to 2"),
        (Langevin, {"lr_min_ratio": 1.5}, "less than or equal to 1"),
        (Langevin, {"tau": 0.0}, "greater than 0"),
        (Langevin, {"momentum": 0.5}, "Extra inputs"),
        (Underdamped, {"momentum": 1.0}, "less than 1"),
        (Daps, {"prior_score": "tweedie"}, "'gaussian', 'score-t', 'score-min' or 'exact'"),
        (Daps, {"prior_score": "exact", "spread": "calibrated"}, "fixes the spread"),
        (Daps, {"prior_score": "score-min", "spread": "isotropic"}, "fixes the spread"),
        (Daps, {"latent_gradient_clip": 0}, "greater than 0"),
        (Daps, {"kernel": "langevin"}, "KernelSettings"),
        (Daps, {"tau": 0.1, "kernel": Langevin(tau=0.2)}, "give one of them"),
    ],
)
def test_wrong_settings_are_refused(settings, given, message):
    with pytest.raises(ValidationError, match=message):
        settings.model_validate(given)


@pytest.mark.parametrize("settings", [*daps_samplers.daps_kernels(), Daps])
def test_every_setting_is_described_and_the_defaults_build(settings):
    assert settings.summary()
    assert all(field.description for field in settings.model_fields.values())
    settings().build()


@pytest.mark.parametrize(
    "settings",
    [
        Daps(annealing={"use": "vp"}).annealing,
        Daps(ode={"use": "ve"}).ode,
        *(kernel() for kernel in daps_samplers.daps_kernels()),
    ],
)
def test_dumped_settings_validate_again(settings):
    assert type(settings).model_validate(settings.model_dump()) == settings


def test_the_door_of_the_package():
    assert [kernel.name for kernel in daps_samplers.daps_kernels()] == [
        "auto",
        "exact",
        "rto",
        "hmc",
        "mala",
        "langevin",
        "underdamped",
        "metropolis",
    ]
    assert [sampler.name for sampler in daps_samplers.daps_samplers()] == ["daps", "smc"]


def test_settings_do_not_import_torch():
    code = "import sys, daps_samplers, daps_priors; assert 'torch' not in sys.modules, 'torch was imported'"
    path = [entry for entry in sys.path if entry]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"], check=True)
