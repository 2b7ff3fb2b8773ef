"""Pipelines of diffusers, of either kind: what stops a run, and whole runs."""

from __future__ import annotations

import pytest
import torch
import yaml
from pydantic import ValidationError
from tiny_models import SHORT_RUN, pixel_unet, save_parts

import daps_kit
from daps_kit.errors import UserError
from tests.priors.published.small_pipelines import build, build_stable

diffusers = pytest.importorskip("diffusers", reason="the extra 'sd' is not installed")


CPU = torch.device("cpu")


def test_wrong_folders_stop_the_run(ddpm, tmp_path, stable):
    with pytest.raises(UserError, match=r"shape \[3, 8, 8\], but those of the run have \[3, 9, 9\]"):
        build(ddpm, (3, 9, 9))
    with pytest.raises(UserError, match=r"unet is a UNet2DConditionModel, but allowed is UNet2DModel"):
        build(stable[0])
    with pytest.raises(UserError, match="unet is a UNet2DModel, but allowed is UNet2DConditionModel"):
        build_stable(ddpm)
    classes = save_parts(
        tmp_path / "classes",
        "DDPMPipeline",
        unet=pixel_unet(num_class_embeds=4),
        scheduler=diffusers.DDPMScheduler(),
    )
    with pytest.raises(UserError, match="is class-conditional"):
        build(classes)
    flow = save_parts(
        tmp_path / "flow",
        "DDPMPipeline",
        unet=pixel_unet(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )
    with pytest.raises(UserError, match=r"FlowMatchEulerDiscreteScheduler has no variances"):
        build(flow)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no model_index.json"):
        build(tmp_path / "empty")
    for name, match in (("no/such/folder", "no such folder"), ("nothing", "no such folder: .*not an id")):
        with pytest.raises(ValidationError, match=match):
            build(name)


def test_building_leaves_the_global_random_state_alone(ddpm, stable):
    before = torch.get_rng_state()
    build(ddpm)
    build_stable(stable[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("use", ["diffusers", "stable_diffusion"])
def test_a_recipe_runs(use, ddpm, stable, tmp_path):
    prior = {"use": use, "model": str(ddpm if use == "diffusers" else stable[0])}
    if use == "stable_diffusion":
        prior |= {"prompt": "a face", "resolution": 8}
    recipe = SHORT_RUN | {"prior": prior, "output": str(tmp_path / "out")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    result = daps_kit.run(tmp_path / "recipe.yaml", quiet=True)
    assert result.samples.shape == (1, 1, 3, 8, 8)
    assert bool(torch.isfinite(result.samples).all())


@pytest.mark.parametrize("use", ["diffusers", "stable_diffusion"])
def test_no_library_draws_bars_while_a_prior_is_built(use, ddpm, stable, capfd):
    """Nor are they switched off for whoever uses the library beside us."""
    transformers = pytest.importorskip("transformers")
    bars = transformers.utils.logging, diffusers.utils.logging
    before = [each.is_progress_bar_enabled() for each in bars]
    build(ddpm) if use == "diffusers" else build_stable(stable[0])
    assert capfd.readouterr() == ("", "")
    assert [each.is_progress_bar_enabled() for each in bars] == before
