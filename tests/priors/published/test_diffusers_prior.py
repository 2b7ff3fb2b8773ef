"""Unconditional pipelines, on small ones that diffusers itself saves: compared with its schedulers and pipelines."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from tiny_models import autoencoder, pixel_unet, save_parts

from daps_kit.errors import UserError
from tests.priors.published.small import noise
from tests.priors.published.small_pipelines import build, push_and_pull, sigma_at

diffusers = pytest.importorskip("diffusers", reason="the extra 'sd' is not installed")


CPU = torch.device("cpu")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_denoiser_is_the_clean_image_that_the_scheduler_predicts(tmp_path, prediction, betas):
    scheduler = diffusers.DDPMScheduler(
        prediction_type=prediction, beta_schedule=betas, clip_sample=False, num_train_timesteps=200
    )
    unet = pixel_unet()
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    prior = build(tmp_path / "p", (3, 8, 8))
    x_t = noise(2, 3, 8, 8)
    for t in (3, 60, 150):
        sigma = sigma_at(scheduler, t)
        with torch.no_grad():
            out = unet(x_t, t).sample
            generator = torch.Generator().manual_seed(1)
            expected = scheduler.step(out, t, x_t, generator=generator).pred_original_sample
            found = prior.denoise(x_t * math.sqrt(1 + sigma**2), sigma)
        # x0 = (x_t - sqrt(1 - a) F) / sqrt(a) of the library, and of the prior, cancel at large sigma.
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4 * (1 + sigma))


def test_a_step_of_the_librarys_ode_solver_is_an_euler_step_of_ours(ddpm):
    prior = build(ddpm)
    scheduler = diffusers.DDIMScheduler.from_pretrained(ddpm / "scheduler")
    scheduler.set_timesteps(50)
    x_t = noise(2, 3, 8, 8)
    for t in (940, 500, 100):
        sigma, following = sigma_at(scheduler, t), sigma_at(scheduler, t - 20)
        x = x_t * math.sqrt(1 + sigma**2)
        with torch.no_grad():
            expected = scheduler.step(prior.unet(x_t, t).sample, t, x_t, eta=0.0).prev_sample
            slope = (x - prior.denoise(x, sigma)) / sigma
        found = (x + (following - sigma) * slope) / math.sqrt(1 + following**2)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_score_of_a_variance_exploding_network(tmp_path):
    unet = pixel_unet(time_embedding_type="fourier", norm_eps=1e-6)
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=348.0)
    folder = save_parts(tmp_path, "ScoreSdeVePipeline", unet=unet, scheduler=scheduler)
    prior = build(folder, (3, 8, 8))
    assert prior.sigma_range == (0.02, 696.0)
    x, sigma = noise(2, 3, 8, 8), torch.tensor([0.5, 20.0])
    with torch.no_grad():
        # Such networks know images in [0, 1] and return the score there.
        score = unet((x + 1) / 2, sigma / 2).sample
        torch.testing.assert_close(prior.score(x, sigma), score / 2, rtol=1e-3, atol=1e-4)


def test_a_schedule_that_ends_in_pure_noise_keeps_its_finite_levels(tmp_path):
    scheduler = diffusers.DDIMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", clip_sample=False
    )
    folder = save_parts(tmp_path, "DDIMPipeline", unet=pixel_unet(), scheduler=scheduler)
    low, high = build(folder).sigma_range
    assert low == pytest.approx(sigma_at(scheduler, 0), rel=1e-3)
    assert high == pytest.approx(sigma_at(scheduler, 998), rel=1e-3)


def test_a_learned_variance_is_left_out(tmp_path):
    unet = pixel_unet(out_channels=6)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    prior = build(save_parts(tmp_path, "DDPMPipeline", unet=unet, scheduler=scheduler))
    x, sigma = noise(1, 3, 8, 8), sigma_at(scheduler, 300)
    with torch.no_grad():
        found = prior.denoise(x * math.sqrt(1 + sigma**2), sigma)
        generator = torch.Generator().manual_seed(1)
        expected = scheduler.step(unet(x, 300).sample, 300, x, generator=generator).pred_original_sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_samples_do_not_depend_on_each_other_and_gradients_come_through(ddpm):
    prior = build(ddpm)
    x, sigma = noise(3, 3, 8, 8), torch.tensor([0.05, 0.7, 30.0])
    with torch.no_grad():
        together = prior.denoise(x, sigma)
        for b in range(3):
            alone = prior.denoise(x[b : b + 1], float(sigma[b]))
            torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(prior.denoise(x.double(), sigma), together.double(), rtol=1e-4, atol=1e-4)
        half = build(ddpm, dtype="bfloat16").denoise(x, sigma)
        assert half.dtype == torch.float32
        assert 0 < float((half - together)[:2].abs().max()) < 0.1
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(leaf, sigma).sum(), leaf)
    assert float(gradient.abs().max()) > 0
    assert not prior.latent


def test_one_network_may_lie_beside_the_index(ddpm):
    x = noise(1, 3, 8, 8)
    with torch.no_grad():
        expected = build(ddpm).denoise(x, 1.0)
    for part in ("unet", "scheduler"):
        for file in (ddpm / part).iterdir():
            file.rename(ddpm / file.name)
        (ddpm / part).rmdir()
    with torch.no_grad():
        torch.testing.assert_close(build(ddpm).denoise(x, 1.0), expected)


@pytest.mark.parametrize("kind", ["VQModel", "AutoencoderKL"])
def test_latent_pipelines_decode_as_the_library_does(tmp_path, kind):
    codes = {"num_vq_embeddings": 16} if kind == "VQModel" else {}
    stage = autoencoder(kind, **codes)
    unet = pixel_unet(in_channels=4, out_channels=4)
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    folder = save_parts(tmp_path, "LDMPipeline", vqvae=stage, unet=unet, scheduler=scheduler)
    prior = build(folder, (3, 16, 16))
    assert prior.latent
    assert prior.state_shape((3, 16, 16)) == (4, 8, 8)
    z, image = noise(2, 4, 8, 8), noise(2, 3, 16, 16, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(prior.decode(z), stage.decode(z / 0.4).sample, rtol=1e-4, atol=1e-5)
        encoded = stage.encode(image)
        latents = encoded.latents if kind == "VQModel" else encoded.latent_dist.mean
        torch.testing.assert_close(prior.encode(image), 0.4 * latents, rtol=1e-4, atol=1e-5)
        rounded = not torch.equal(build(folder, quantize=False).decode(z), prior.decode(z))
    assert rounded == (kind == "VQModel")
    push_and_pull(prior, z)


def test_wrong_weights_stop_the_run(ddpm):
    from safetensors.torch import load_file, save_file

    path = next((ddpm / "unet").glob("*.safetensors"))
    good = load_file(path)

    def refused(tensors, match):
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(UserError, match=match):
            build(ddpm)

    refused(
        {k: v for k, v in good.items() if k != "conv_in.bias"}, r"do not fit UNet2DModel: missing: conv_in"
    )
    refused({**good, "extra": torch.ones(1)}, "unexpected: extra")
    refused({**good, "conv_in.bias": torch.ones(7)}, "conv_in.bias")
    refused(
        {**good, "conv_in.bias": torch.full((32,), torch.nan)}, r"conv_in\.bias holds numbers that are not"
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot read the unet in "):
        build(ddpm)
    torch.save(good, path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(UserError, match="holds no weights as .safetensors"):
        build(ddpm)


def test_the_hub_cannot_be_reached(tmp_path):
    code = (
        "import torch; from daps_priors.published.latent_settings import Diffusers\n"
        "Diffusers(model='daps-kit-test/not-there').build(shape=None, device=torch.device('cpu'))"
    )
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",  # read when the library is imported
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert "UserError: cannot fetch 'daps-kit-test/not-there' from the Hugging Face hub" in done.stderr
