"""Stable Diffusion, on a small pipeline that diffusers itself saves: compared with its schedulers and autoencoder."""

from __future__ import annotations

import math

import pytest
import torch

from daps_kit.errors import UserError
from daps_priors.published.latent_settings import StableDiffusion
from tests.priors.published.small import noise
from tests.priors.published.small_pipelines import build_stable, push_and_pull, sigma_at

diffusers = pytest.importorskip("diffusers", reason="the extra 'sd' is not installed")


transformers = pytest.importorskip("transformers", reason="the extra 'sd' is not installed")


CPU = torch.device("cpu")


def test_prompts_are_encoded_as_the_pipeline_does_and_once(stable):
    folder, pipeline = stable
    wanted, negative = pipeline.encode_prompt("a face", CPU, 1, True, negative_prompt="blur")
    prior = build_stable(folder, negative_prompt="blur")
    torch.testing.assert_close(prior.prompts, torch.cat((negative, wanted)), rtol=1e-5, atol=1e-6)
    assert torch.equal(build_stable(folder, guidance=1.0).prompts, prior.prompts[1:])
    assert not any(isinstance(value, transformers.PreTrainedModel) for value in vars(prior).values())
    with pytest.raises(UserError, match=r"prompt 'abababab.*' has 62 tokens, allowed are 24"):
        build_stable(folder, prompt="ab" * 30)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_guided_denoising_is_that_of_the_librarys_scheduler(stable, tmp_path, prediction, guidance):
    _, pipeline = stable
    scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, prediction_type=prediction, clip_sample=False
    )
    copy = tmp_path / "copy"
    diffusers.StableDiffusionPipeline(
        **{**pipeline.components, "scheduler": scheduler}, requires_safety_checker=False
    ).save_pretrained(copy)
    prior = build_stable(copy, guidance=guidance, negative_prompt="blur")
    z_t = noise(2, 4, 16, 16)
    wanted, negative = pipeline.encode_prompt("a face", CPU, 1, True, negative_prompt="blur")
    scheduler.set_timesteps(50)
    for t in (60, 400, 900):
        sigma, following = sigma_at(scheduler, t), sigma_at(scheduler, t - 20)
        z = z_t * math.sqrt(1 + sigma**2)
        with torch.no_grad():
            out, without = (
                pipeline.unet(z_t, t, text.expand(2, -1, -1)).sample for text in (wanted, negative)
            )
            step = scheduler.step(without + guidance * (out - without), t, z_t, eta=0.0)
            found = prior.denoise(z, sigma)
        error = (found - step.pred_original_sample).abs().max()
        assert float(error) < 1e-4 * float(step.pred_original_sample.abs().max())
        # and one step of its deterministic sampler is one Euler step of the probability-flow ODE
        euler = (z + (following - sigma) * (z - found) / sigma) / math.sqrt(1 + following**2)
        torch.testing.assert_close(euler, step.prev_sample, rtol=1e-3, atol=1e-4)


def test_between_steps_the_time_is_interpolated(stable):
    folder, pipeline = stable
    prior = build_stable(folder)
    low, high = sigma_at(pipeline.scheduler, 300), sigma_at(pipeline.scheduler, 301)
    sigma = torch.tensor([low, math.sqrt(low * high), high], dtype=torch.float64)
    assert prior.precondition.time(sigma).tolist() == pytest.approx([300, 300.5, 301], abs=1e-2)
    assert prior.sigma_range == pytest.approx(
        (sigma_at(pipeline.scheduler, 0), sigma_at(pipeline.scheduler, 999)), rel=1e-3
    )


def test_decoding_at_the_inner_resolution_then_scaling_down(stable):
    folder, pipeline = stable
    prior = build_stable(folder, (3, 8, 8))
    assert (prior.shape, prior.state_shape((3, 8, 8))) == ((3, 8, 8), (4, 16, 16))
    z, image = noise(2, 4, 16, 16), noise(1, 3, 8, 8, seed=1)
    with torch.no_grad():
        inner = pipeline.vae.decode(z / 0.4).sample
        assert inner.shape == (2, 3, 32, 32)
        torch.testing.assert_close(build_stable(folder).decode(z), inner, rtol=1e-4, atol=1e-5)
        # Antialiased bilinear by 4: a triangle of half-width 4 about the centre of each pixel.
        centres = 4 * torch.arange(8) + 1.5
        weight = (1 - (torch.arange(32) - centres[:, None]).abs() / 4).clamp(min=0)
        weight = weight / weight.sum(1, keepdim=True)
        torch.testing.assert_close(prior.decode(z), weight @ inner @ weight.T, rtol=1e-4, atol=1e-5)
        encoded = prior.encode(image)
        assert encoded.shape == (1, 4, 16, 16)
        flat = torch.full((1, 3, 8, 8), 0.3)
        expected = 0.4 * pipeline.vae.encode(torch.full((1, 3, 32, 32), 0.3)).latent_dist.mean
        torch.testing.assert_close(prior.encode(flat), expected, rtol=1e-4, atol=1e-5)
    push_and_pull(prior, z)
    larger = build_stable(folder, (3, 8, 8), inner_resolution=48)
    assert larger.state_shape((3, 8, 8)) == (4, 24, 24)
    with pytest.raises(UserError, match="inner_resolution must be divisible by 4, got 34"):
        build_stable(folder, inner_resolution=34)
    with pytest.raises(UserError, match="64 x 64 pixels are larger than those of the model, 32 x 32"):
        build_stable(folder, (3, 64, 64))
    with pytest.raises(UserError, match=r"shape \[3, 16, 16\], but those of the run have \[3, 8, 8\]"):
        build_stable(folder, (3, 8, 8), resolution=16)


def test_options_to_save_memory(stable):
    folder, _ = stable
    z = noise(2, 4, 16, 16)
    prior = build_stable(folder)
    with torch.no_grad():
        expected = prior.decode(z)
        torch.testing.assert_close(
            build_stable(folder, vae_slicing=True).decode(z), expected, rtol=1e-4, atol=1e-5
        )
        assert build_stable(folder, dtype="bfloat16").vae.dtype == torch.float32
        half = build_stable(folder, dtype="bfloat16", half_decoder=True)
        assert half.unet.dtype == half.vae.dtype == torch.bfloat16
        assert half.decode(z).dtype == torch.float32
        assert 0 < float((half.decode(z) - expected).abs().max()) < 0.1
        assert 0 < float((half.denoise(z, 1.0) - prior.denoise(z, 1.0)).abs().max()) < 0.2
    tiled = build_stable(folder, vae_tiling=True)  # tiles of 8 x 8 latents
    leaf = z.clone().requires_grad_()
    image = tiled.decode(leaf)
    assert image.shape == expected.shape
    assert not torch.equal(image, expected)
    (gradient,) = torch.autograd.grad(image.sum(), leaf)
    assert bool(torch.isfinite(gradient).all())


def test_named_models_come_from_the_cache(stable, tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"run `daps-kit checkpoints fetch stable-diffusion-v1\.5`"):
        StableDiffusion().build(shape=None, device=CPU)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "stable-diffusion-v2.1").symlink_to(stable[0])
    prior = StableDiffusion(model="v2.1", prompt="a face").build(shape=None, device=CPU)
    assert prior.shape == (3, 32, 32)
