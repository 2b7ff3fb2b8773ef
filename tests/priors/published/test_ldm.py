"""Latent diffusion: recorded outputs out of real files, its noise schedule, conditions, first stage, wrong files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import save_file

import daps_kit
from daps_kit.errors import UserError
from daps_kit.weights.tensors import read_tensors
from daps_priors.published.adm import Architecture
from daps_priors.published.latent_settings import LDM, LatentArchitectureSettings
from daps_priors.published.ldm import LATENT_ARCHITECTURES, LatentDiffusion, scaled_linear_betas
from daps_priors.published.preconditioning import VP, Discrete
from daps_priors.published.vq import VQArchitecture
from tests.priors.published.small import counting_compile, noise
from tests.priors.published.tiny_ldm import (
    CLASSES,
    CPU,
    FIRST_STAGE,
    GOLDEN,
    HEADS,
    UNET,
    build,
    lightning,
    relative,
    weights,
)


@pytest.fixture
def checkpoint(tmp_path):
    return lightning(weights(), tmp_path / "tiny.ckpt")


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("rule", ["A", "B"])
@pytest.mark.parametrize("name", ["ffhq", "imagenet"])
def test_recorded_outputs_out_of_real_files(golden, tmp_path, name, rule, channels_last):
    arrays, params = golden(f"ldm_{name}_rule{rule}")
    flags = params["ldm_config_model"]["params"]["unet_config"]["params"]
    arch = Architecture(
        image_size=16,
        num_channels=flags["model_channels"],
        num_res_blocks=flags["num_res_blocks"],
        channel_mult=tuple(flags["channel_mult"]),
        attention_resolutions=tuple(sorted((16 // d for d in flags["attention_resolutions"]), reverse=True)),
        num_heads=flags.get("num_heads", 4),
        num_head_channels=flags.get("num_head_channels", -1),
        use_scale_shift_norm=False,
    )
    classes = {"classes": 1001, "context": flags["context_dim"]} if name == "imagenet" else {}
    state = weights(arch, rule=rule, **classes)
    for prefix, known in params["fingerprint"].items():
        total = sum(float(t.double().sum()) for n, t in state.items() if n.startswith(prefix))
        assert total == pytest.approx(known["sum_of_all_weights_f64"], rel=1e-9)
    heads = {k: flags[k] for k in ("num_heads", "num_head_channels") if k in flags}
    prior = build(
        lightning(state, tmp_path / "model.ckpt"),
        (3, 32, 32),
        schedule="published",
        channels_last=channels_last,
        architecture=LatentArchitectureSettings(**heads),
    )
    assert prior.model.network.arch == arch
    assert prior.state_shape((3, 32, 32)) == (3, 16, 16)
    z, t, zd, image, cot = (torch.tensor(arrays[k]) for k in ("z", "t", "zd", "ximg", "cot"))
    with torch.no_grad():
        assert relative(prior.model.network(z, t), arrays["unet_out"]) < 1e-5
        for i, sigma in enumerate(params["sigmas"]):
            assert relative(prior.denoise(z, sigma), arrays[f"D_{i}"]) < 1e-5
        assert relative(prior.decode(zd), arrays["dec"]) < 1e-5
        assert relative(prior.encode(image), arrays["enc"]) < 1e-5
        assert np.array_equal(prior.first_stage.quantize.nearest(zd).flatten(), arrays["idx"])
        smooth = build(
            tmp_path / "model.ckpt",
            (3, 32, 32),
            quantize=False,
            architecture=LatentArchitectureSettings(**heads),
        )
        assert relative(smooth.decode(zd), arrays["dec_noquant"]) < 1e-5
    leaf = zd.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((prior.decode(leaf) * cot).sum(), leaf)
    assert relative(gradient, arrays["grad"]) < 1e-5


@pytest.mark.parametrize("model", ["ffhq256", "imagenet256"])
def test_names_and_shapes_are_those_of_the_published_checkpoints(model):
    lines = (GOLDEN / f"ldm_{model}_state_dict.txt").read_text(encoding="utf-8").splitlines()
    published = dict(line.split() for line in lines)
    with torch.device("meta"):
        network = LatentDiffusion(**LATENT_ARCHITECTURES[model])
    ours = {name: "x".join(map(str, tensor.shape)) for name, tensor in network.state_dict().items()}
    prefixes = ("model.", "first_stage_model.", "cond_stage_model.")
    assert ours == {name: shape for name, shape in published.items() if name.startswith(prefixes)}
    assert LATENT_ARCHITECTURES[model]["first_stage"].factor == 4


def test_averaged_weights_are_used_under_the_names_that_training_gave_them(tmp_path):
    raw = weights()
    average = {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": 0.9 * tensor
        for name, tensor in raw.items()
        if name.startswith("model.")
    }
    lines = (GOLDEN / "ldm_ffhq256_state_dict.txt").read_text(encoding="utf-8").splitlines()
    assert {f"model_ema.diffusion_model{end}" for end in ("out2weight", "time_embed0bias")} <= (
        {line.split()[0] for line in lines} & set(average)
    )
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    path = lightning(raw, tmp_path / "both.ckpt", **average, **counters)
    name = "model.diffusion_model.out.2.weight"
    for choice, factor in (("auto", 0.9), ("ema", 0.9), ("raw", 1.0)):
        prior = build(path, weights=choice)
        torch.testing.assert_close(prior.model.network.out[2].weight, factor * raw[name])
        assert torch.equal(prior.first_stage.quant_conv.weight, raw["first_stage_model.quant_conv.weight"])
    with pytest.raises(UserError, match="no moving average"):
        build(lightning(raw, tmp_path / "raw.ckpt"), weights="ema")


def test_every_format_gives_the_same_prior(tmp_path, checkpoint):
    save_file(read_tensors(checkpoint), tmp_path / "tiny.safetensors")
    torch.save(weights(), tmp_path / "bare.pt")
    z = noise(1, 3, 8, 8)
    with torch.no_grad():
        expected = build(checkpoint).denoise(z, 1.0)
        for name in ("tiny.safetensors", "bare.pt"):
            torch.testing.assert_close(build(tmp_path / name).denoise(z, 1.0), expected)


def test_wrong_files_stop_the_run(tmp_path, checkpoint):
    good = weights()

    def refused(state, match, **options):
        torch.save(state, tmp_path / "wrong.pt")
        with pytest.raises(UserError, match=match):
            build(tmp_path / "wrong.pt", **options)

    unet, first = "model.diffusion_model.", "first_stage_model."
    refused(
        {k: v for k, v in good.items() if "middle" not in k},
        r"missing: model\.diffusion_model\.middle_block\.0\.in_layers\.0\.weight, .* and \d+ more",
    )
    refused({**good, "extra": torch.ones(1)}, "unexpected: extra")
    refused({**good, f"{unet}out.0.bias": torch.ones(7)}, r"out\.0\.bias \[7\] instead of \[32\]")
    refused({**good, f"{first}quant_conv.bias": torch.full((3,), torch.nan)}, "not finite")
    refused({**good, f"{unet}out.2.weight": torch.zeros(3, 32, 3, 3)}, "was never trained")
    refused({k: v for k, v in good.items() if not k.startswith(first)}, "holds no first_stage_model")
    refused(
        {k: v for k, v in good.items() if "quantize" not in k},
        r"no first stage with a codebook \(VQ\): first_stage_model\.quantize\.embedding\.weight",
    )
    refused(good, "give num_heads or num_head_channels", architecture=LatentArchitectureSettings())
    refused(good, r"divisible by 2, got 17", shape=(3, 17, 17))
    torch.save({**good, f"{first}loss.discriminator.main.0.weight": torch.ones(1)}, tmp_path / "loss.pt")
    assert build(tmp_path / "loss.pt").shape == (3, 16, 16)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cut short"):
        build(checkpoint)


def test_the_model_of_a_name_comes_from_the_cache(tmp_path, monkeypatch, checkpoint):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="run `daps-kit checkpoints fetch ffhq256ldm`"):
        LDM().build(shape=None, device=CPU)
    (tmp_path / "cache" / "checkpoints").mkdir(parents=True)
    checkpoint.rename(tmp_path / "cache" / "checkpoints" / "ffhq256ldm.ckpt")
    with pytest.raises(UserError, match=r"ffhq256ldm\.ckpt does not fit the network: missing: model\.diff"):
        LDM().build(shape=None, device=CPU)
    with pytest.raises(ValidationError, match="custom needs checkpoint"):
        LDM(model="custom")
    with pytest.raises(ValidationError, match="that of ffhq256 is known"):
        LDM(architecture=HEADS)


@pytest.mark.parametrize(
    ("arch", "first", "options"),
    [
        ({}, {}, {}),
        ({"num_res_blocks": 2, "channel_mult": (1, 2, 3), "attention_resolutions": (4, 2)}, {}, {}),
        ({}, {"multipliers": (1, 1, 2), "blocks": 2, "attention": (2,), "codes": 5}, {}),
        ({"in_channels": 4}, {"latent_channels": 4, "z_channels": 6}, {}),
        ({"attention_resolutions": (8, 4)}, {}, {**CLASSES, "depth": 2}),
    ],
)
def test_works_out_the_architecture_from_the_weights(tmp_path, arch, first, options):
    arch, first = Architecture(**{**vars(UNET), **arch}), VQArchitecture(**{**vars(FIRST_STAGE), **first})
    torch.save(weights(arch, first, **options), tmp_path / "model.pt")
    side = 8 * first.factor
    prior = build(tmp_path / "model.pt", (3, side, side))
    assert (prior.model.network.arch, prior.first_stage.arch) == (arch, first)
    assert prior.model.network.context == options.get("context", 0)
    assert prior.shape == (3, side, side)
    assert prior.state_shape(prior.shape) == (first.latent_channels, 8, 8)


def test_the_network_is_told_the_time_of_its_own_schedule(tmp_path, checkpoint):
    sigma = torch.tensor([0.1, 0.3, 1, 3, 10], dtype=torch.float64)
    own, published = build(checkpoint), build(checkpoint, schedule="published")
    assert own.precondition.time(sigma).tolist() == pytest.approx([5.6, 50, 254, 517, 737], abs=0.5)
    assert published.precondition.time(sigma).tolist() == pytest.approx([27.0, 88, 258.7, 476, 675], abs=0.5)
    assert own.sigma_range[0] == pytest.approx(0.0388, abs=1e-4)
    # A checkpoint with another schedule is told the times of that one; one without, the usual one.
    other = scaled_linear_betas(0.001, 0.03)
    path = lightning(weights(), tmp_path / "other.ckpt", betas=other.float())
    torch.testing.assert_close(
        build(path).precondition.time(sigma), Discrete(other).time(sigma), rtol=1e-3, atol=1e-3
    )
    torch.save(weights(), tmp_path / "bare.pt")
    torch.testing.assert_close(
        build(tmp_path / "bare.pt").precondition.time(sigma),
        own.precondition.time(sigma),
        rtol=1e-3,
        atol=1e-3,
    )
    assert isinstance(published.precondition, VP)


def test_the_denoiser_is_the_network_behind_its_preconditioning(checkpoint):
    prior = build(checkpoint)
    z, sigma = noise(2, 3, 8, 8), torch.tensor([0.2, 4.0])
    with torch.no_grad():
        found = prior.denoise(z, sigma)
        column = sigma.reshape(-1, 1, 1, 1)
        eps = prior.model.network(z / (1 + column**2).sqrt(), prior.precondition.time(sigma.double()))
        torch.testing.assert_close(found, z - column * eps, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(prior.denoise(z.double(), sigma), found.double(), rtol=1e-4, atol=1e-4)
        for b in range(2):
            alone = prior.denoise(z[b : b + 1], float(sigma[b]))
            torch.testing.assert_close(found[b : b + 1], alone, rtol=1e-4, atol=1e-4)
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(leaf, sigma).sum(), leaf)
    assert float(gradient.abs().max()) > 0


@pytest.fixture
def classes(tmp_path):
    arch = Architecture(**{**vars(UNET), "num_head_channels": 16, "attention_resolutions": (8, 4)})
    return lightning(weights(arch, **CLASSES), tmp_path / "classes.ckpt")


FOUR_HEADS = LatentArchitectureSettings(num_head_channels=16)


def test_classes_and_guidance_for_any_number_of_heads_and_samples(classes):
    z, sigma = noise(3, 3, 8, 8), torch.tensor([0.2, 1.0, 4.0])

    def denoise(z=z, sigma=sigma, **options):
        prior = build(classes, architecture=FOUR_HEADS, **options)
        with torch.no_grad():
            return prior.denoise(z, sigma)

    none, wanted = denoise(), denoise(label=4)
    assert not torch.allclose(none, wanted, atol=1e-3)
    torch.testing.assert_close(denoise(label=10), none)
    for b in range(3):
        alone = denoise(z[b : b + 1], float(sigma[b]), label=4)
        torch.testing.assert_close(wanted[b : b + 1], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        denoise(label=4, guidance=2.5), none + 2.5 * (wanted - none), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        denoise(sigma=1.0, label=4, guidance=0.0), denoise(sigma=1.0), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(UserError, match="label is 11, but allowed is 0 to 10, the last for none"):
        denoise(label=11)


def test_a_network_without_classes_takes_no_label(checkpoint):
    for options in ({"label": 1}, {"guidance": 2.0}):
        with pytest.raises(UserError, match="need a network with classes"):
            build(checkpoint, **options)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near(classes, dtype):
    z = noise(1, 3, 8, 8)
    whole, half = (
        build(classes, architecture=FOUR_HEADS, label=3, **options)
        for options in ({}, {"dtype": dtype, "half_decoder": True})
    )
    with torch.no_grad():
        for name in ("denoise", "decode"):
            arguments = (z, 1.0) if name == "denoise" else (z,)
            expected, found = getattr(whole, name)(*arguments), getattr(half, name)(*arguments)
            assert found.dtype == torch.float32
            assert 0 < relative(found, expected) < 0.1


@pytest.mark.slow
def test_compiles_the_network(classes, monkeypatch):
    graphs = []
    monkeypatch.setattr(torch, "compile", counting_compile(graphs))
    z = noise(1, 3, 8, 8)
    with torch.no_grad():
        expected, found = (
            build(classes, architecture=FOUR_HEADS, label=3, guidance=2.0, compile=compile).denoise(z, 1.0)
            for compile in (False, True)
        )
    assert len(graphs) == 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_scale_factor_of_the_checkpoint_is_used(tmp_path):
    path = lightning(weights(), tmp_path / "scaled.ckpt", scale_factor=torch.tensor(0.25))
    assert build(path).scale_factor == 0.25
    assert build(path, scale_factor=2.0).scale_factor == 2.0


def test_a_latent_recipe_runs_from_a_checkpoint_to_pictures(tmp_path, checkpoint):
    recipe = {
        "format": 1,
        "data": {"use": "prior", "count": 1},
        "prior": {
            "use": "ldm",
            "model": "custom",
            "checkpoint": "tiny.ckpt",
            "architecture": {"image_size": 16, "num_head_channels": 32},
        },
        "operator": {"use": "down_sampling", "scale_factor": 4},
        "sampler": {
            "use": "daps",
            "annealing": {"levels": 3, "sigma_max": 10.0, "sigma_min": 0.1},
            "ode": {"steps": 2},
            "kernel": {"use": "underdamped", "steps": 3, "lr": 1.0e-5},
            "latent_gradient_clip": 1.0,
        },
        "runs": 2,
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "latent.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(UserError, match="weights are random"):
        daps_kit.run(tmp_path / "latent.yaml", [f"output={tmp_path / 'refused'}"], quiet=True)
    result = daps_kit.run(tmp_path / "latent.yaml", ["check_prior=false"], quiet=True)
    assert result.samples.shape == (1, 2, 3, 16, 16)
    assert bool(torch.isfinite(result.samples).all())
    assert not torch.equal(result.samples[0, 0], result.samples[0, 1])
