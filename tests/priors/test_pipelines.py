"""Priors that diffusers runs, on small pipelines that diffusers itself saves: compared with its schedulers and pipelines."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
import yaml
from pydantic import ValidationError
from tiny_models import autoencoder, pixel_unet, save_parts, stable_diffusion

import daps_kit
from daps_kit.errors import UserError
from daps_priors.published.latent_settings import Diffusers, StableDiffusion
from daps_samplers.target import DecodedOperator

diffusers = pytest.importorskip("diffusers", reason="the extra 'sd' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'sd' is not installed")

CPU = torch.device("cpu")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(folder, shape=None, **options):
    return Diffusers(model=str(folder), **options).build(shape=shape, device=CPU)


@pytest.fixture
def ddpm(tmp_path):
    pipeline = diffusers.DDPMPipeline(pixel_unet(), diffusers.DDPMScheduler(clip_sample=False))
    pipeline.save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def push_and_pull(prior, z):
    """Compare J v and J^T u of a decoder, as the samplers take them, with each other and with differences."""
    operator = daps_kit.build("operator", {"use": "identity"}, shape=prior.shape)
    decoded = DecodedOperator(operator, prior, z.shape[1:])
    image, vjp = decoded.forward_vjp(z)
    u, v = noise(*image.shape, seed=3), noise(*z.shape, seed=2)
    push, pull = decoded.jvp(z, v), vjp(u)
    size = float(push.norm() * u.norm())
    assert abs(float((push * u).sum() - (pull * v).sum())) < 1e-4 * size
    if getattr(prior, "codebook", False):
        return  # rounding has no derivative, another stands in
    h = 1e-2
    with torch.no_grad():
        change = (prior.decode(z + h * v) - prior.decode(z - h * v)) / (2 * h)
    assert float((push - change).norm()) < 0.02 * float(change.norm())


def sigma_at(scheduler, t):
    a = float(scheduler.alphas_cumprod[t].double())
    return math.sqrt((1 - a) / a)


# --- pixels


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


# --- latents


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


# --- Stable Diffusion


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    """A small Stable Diffusion, saved by the library; its parts."""
    folder = tmp_path_factory.mktemp("stable")
    pipeline = stable_diffusion(folder)
    pipeline.save_pretrained(folder / "model")
    return folder / "model", pipeline


def build_stable(folder, shape=(3, 32, 32), **options):
    options.setdefault("prompt", "a face")
    return StableDiffusion(model=str(folder), **options).build(shape=shape, device=CPU)


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


# --- what is wrong with a folder


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


def test_building_leaves_the_global_random_state_alone(ddpm, stable):
    before = torch.get_rng_state()
    build(ddpm)
    build_stable(stable[0])
    assert torch.equal(torch.get_rng_state(), before)


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


# --- a run


@pytest.mark.parametrize("use", ["diffusers", "stable_diffusion"])
def test_a_recipe_runs(use, ddpm, stable, tmp_path):
    prior = {"use": use, "model": str(ddpm if use == "diffusers" else stable[0])}
    if use == "stable_diffusion":
        prior |= {"prompt": "a face", "resolution": 8}
    recipe = {
        "format": 1,
        "data": {"use": "prior", "count": 1},
        "prior": prior,
        "operator": {"use": "down_sampling", "scale_factor": 2},
        "sampler": {
            "use": "daps",
            "annealing": {"levels": 2, "sigma_max": 10.0, "sigma_min": 0.1},
            "ode": {"steps": 2},
            "kernel": {"use": "underdamped", "steps": 2, "lr": 1.0e-5},
        },
        "check_prior": False,
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    result = daps_kit.run(tmp_path / "recipe.yaml", quiet=True)
    assert result.samples.shape == (1, 1, 3, 8, 8)
    assert bool(torch.isfinite(result.samples).all())
