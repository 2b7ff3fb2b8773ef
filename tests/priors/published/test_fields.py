"""Settings that several published networks have, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_priors.published.fields import require_own_checkpoint
from daps_priors.published.latent_settings import Diffusers, StableDiffusion


def test_settings_that_go_together():
    for kind, options, text in (
        (Diffusers, {"device_map": {"vae": 0}}, r"'vae' begins with none of its networks \(unet\)"),
        (StableDiffusion, {"device_map": {"text": 0}}, r"'text' begins with none .* \(unet, vae\)"),
        (
            StableDiffusion,
            {"device_map": "offload", "max_memory": {"cpu": 1}},
            "max_memory is for a strategy",
        ),
        (StableDiffusion, {"max_memory": {"cpu": 1}}, "max_memory is for a strategy"),
    ):
        with pytest.raises(ValueError, match=text):
            kind(model="google/model", **options)
    StableDiffusion(device_map="auto", max_memory={"0": "10GiB"})


def test_a_network_of_ones_own_has_its_weights():
    require_own_checkpoint("ffhq256", None)
    require_own_checkpoint("custom", Path("x.pt"))
    with pytest.raises(ValueError, match="model: custom needs checkpoint"):
        require_own_checkpoint("custom", None)
