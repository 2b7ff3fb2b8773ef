"""Pipelines that diffusers itself saves."""

from __future__ import annotations

import pytest
from tiny_models import pixel_unet, stable_diffusion


@pytest.fixture
def ddpm(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="the extra 'sd' is not installed")
    pipeline = diffusers.DDPMPipeline(pixel_unet(), diffusers.DDPMScheduler(clip_sample=False))
    pipeline.save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    """A small Stable Diffusion, saved by the library; its parts."""
    for library in ("diffusers", "transformers"):
        pytest.importorskip(library, reason="the extra 'sd' is not installed")
    folder = tmp_path_factory.mktemp("stable")
    pipeline = stable_diffusion(folder)
    pipeline.save_pretrained(folder / "model")
    return folder / "model", pipeline
