"""What priors made of diffusers' folders say before diffusers is needed, and where it is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from pydantic import ValidationError

from daps_kit.errors import UserError
from daps_kit.paths import RecipeText
from daps_priors.published.latent_settings import Diffusers, StableDiffusion
from daps_priors.published.pipeline_files import Pipeline, ScoreVE, VPrediction, XPrediction, schedule
from daps_priors.published.preconditioning import Discrete, linear_betas

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "safety_checker": [None, None],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index), "utf-8")
    return tmp_path


@pytest.mark.parametrize("kind", [Diffusers, StableDiffusion])
def test_says_what_to_install(folder, monkeypatch, kind):
    content = (folder / "model_index.json").read_text("utf-8")
    if kind is StableDiffusion:
        parts = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
        index = {**json.loads(content), **{part: ["diffusers", name] for part, name in parts.items()}}
        (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"needs diffusers, .*: pip install 'daps-kit\[sd\]'"):
        kind(model=str(folder)).build(shape=None, device=CPU)


def test_a_folder_is_found_beside_the_recipe(folder, tmp_path):
    text = RecipeText("here", tmp_path.parent)
    with pytest.raises(ValidationError, match="no such folder: .*'here' is not an id"):
        Diffusers(model=text)
    (tmp_path / "here").mkdir()
    assert Diffusers(model=RecipeText("here", tmp_path)).model == str(tmp_path / "here")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ValidationError, match="is a file; give the folder"):
        StableDiffusion(model=str(tmp_path / "file"))
    assert Diffusers(model="google/ddpm-celebahq-256").model == "google/ddpm-celebahq-256"
    assert StableDiffusion(model="v2.1").model == "v2.1"


def test_parts_are_what_the_index_says(folder):
    pipeline = Pipeline(str(folder))
    assert pipeline.classes == {"unet": "UNet2DModel", "scheduler": "DDPMScheduler"}
    with pytest.raises(UserError, match=r"\(DDPMPipeline\) has no vae; it has unet, scheduler"):
        pipeline.require("vae")
    (folder / "model_index.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match="model_index.json: it is damaged"):
        Pipeline(str(folder))
    with pytest.raises(UserError, match=r"did you mean 'stable-diffusion-v1\.5'"):
        Pipeline("stable-diffusion-1.5")


def test_what_a_network_predicts_does_not_matter_to_the_denoiser():
    x0, n = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).chunk(2)
    for sigma in (0.02, 1.0, 60.0):
        x, a = x0 + sigma * n, 1 / (1 + sigma**2)
        truths = {
            Discrete: n,
            VPrediction: a**0.5 * n - (1 - a) ** 0.5 * x0,
            XPrediction: x0,
        }
        for kind, truth in truths.items():
            network = Mock(return_value=truth)
            found = kind(linear_betas()).denoise(network, x, sigma)
            torch.testing.assert_close(found, x0, rtol=1e-3, atol=1e-5 * (1 + sigma))
            torch.testing.assert_close(network.call_args.args[0], a**0.5 * x)
        unit = ScoreVE(0.01, 300.0).denoise(lambda u, s: -(u - (x0 + 1) / 2) / s**2, x, sigma)
        torch.testing.assert_close(unit, x0, rtol=1e-3, atol=1e-5 * (1 + sigma))


def test_schedules_that_are_not_known():
    class Config(dict):
        __getattr__ = dict.get

    betas = linear_betas().float()
    known = schedule(SimpleNamespace(betas=betas, config=Config(prediction_type="v_prediction")))
    assert type(known) is VPrediction
    with pytest.raises(
        UserError, match="prediction_type is 'flow', but known is epsilon, v_prediction, sample"
    ):
        schedule(SimpleNamespace(betas=betas, config=Config(prediction_type="flow")))
    with pytest.raises(UserError, match=r"has no variances \(betas\)"):
        schedule(SimpleNamespace(config=Config()))


def test_settings_do_not_import_torch():
    code = "import sys, daps_priors.published.latent_settings; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
