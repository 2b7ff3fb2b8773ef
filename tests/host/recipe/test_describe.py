"""What `daps-kit show` says of a component."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daps_kit.recipe import load_recipe
from daps_kit.recipe.training import load_training
from daps_kit.registry import default_registry
from daps_kit.settings import KernelSettings
from tests.host.command_line import call, ok
from tests.recipe_text import MINIMAL


def test_show_what_must_be_given_and_what_is_inside() -> None:
    told = json.loads(ok("show", "prior/trained", "--json"))
    (path,) = [p for p in told["parameters"] if p["name"] == "path"]
    assert (path["type"], path["default"]) == ("path", None)
    assert "path: ..." in told["recipe"]
    assert "(required)" in ok("show", "prior/trained")
    told = json.loads(ok("show", "sampler/daps", "--json"))
    names = [p["name"] for p in told["parameters"]]
    assert {"annealing.levels", "annealing.sigma_max", "ode.steps", "kernel"} <= set(names)
    assert all(p["description"] for p in told["parameters"])


@pytest.mark.parametrize("component", default_registry().components(), ids=lambda c: f"{c.kind}-{c.name}")
def test_the_section_shown_can_be_copied_into_a_recipe(component: Any) -> None:
    told = json.loads(ok("show", f"{component.kind}/{component.qualified}", "--json"))
    if component.name == "diffusers":  # takes a folder
        Path("weights.safetensors").mkdir()
    else:
        Path("weights.safetensors").touch()
    recipe = told["recipe"].replace("operator:\n  use: ...", "operator:\n  use: identity")
    recipe = recipe.replace(
        "of:\n    use: ...", "of:\n    use: gaussian"
    )  # the prior that another is made of
    extra = recipe.replace(" ...", " weights.safetensors")
    base = "".join(
        line for line in MINIMAL.splitlines(True) if not line.startswith(extra.partition(":")[0] + ":")
    )
    if component.kind == "trainer":
        lists = {
            p["name"] for p in told["parameters"] if p["default"] is None and p["type"].startswith("list")
        }
        given = {
            key: "[weights.safetensors]" if key in lists else "weights.safetensors"
            for key in ("images", "output")
        }
        section = "".join(
            line.replace(" ...", f" {given.get(line.strip().partition(':')[0], '')}")
            for line in told["recipe"].splitlines(True)
        )
        Path("shown.yaml").write_text("format: 1\n" + section)
        assert type(load_training("shown.yaml").trainer) is component.settings
        return
    Path("shown.yaml").write_text(base + extra)
    (recipe,) = load_recipe("shown.yaml")
    places = {
        "kernel": lambda: recipe.sampler.kernel,  # type: ignore[attr-defined]
        "noise": lambda: recipe.operator.noise,
        "executor": lambda: recipe.execution,
    }
    found = places.get(component.kind, lambda: getattr(recipe, component.kind))()
    assert type(found) is component.settings
    if "..." not in told["recipe"]:
        assert found == component.settings()


class Twice(KernelSettings):
    """A kernel with the name of an operator."""

    name = "gaussian_blur"

    def build(self): ...


def test_show_a_name_that_two_kinds_have() -> None:
    with default_registry().extended(Twice):
        result = call("show", "gaussian_blur")
    assert result.stderr == "error: 'gaussian_blur' may be operator/gaussian_blur or kernel/gaussian_blur\n"
