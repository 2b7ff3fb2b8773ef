"""Networks over pixels out of real files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from daps_kit.errors import UserError
from daps_priors.published.adm import ADM, Architecture
from daps_priors.published.ddpm import infer_architecture
from daps_priors.published.pixel_settings import DDPM, ArchitectureSettings
from tests.priors.published.small import TINY, counting_compile, noise

CPU = torch.device("cpu")


HEADS = ArchitectureSettings(num_head_channels=16)


def weights(arch=TINY):
    with torch.device("meta"):
        shapes = ADM(arch).state_dict()
    filled = {}
    for k, (name, tensor) in enumerate(shapes.items()):
        r = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(k))
        bias = 0.1 * r + name.endswith("weight")
        filled[name] = r / tensor[0].numel() ** 0.5 if tensor.ndim >= 2 else bias
    return filled


@pytest.fixture
def checkpoint(tmp_path):
    torch.save(weights(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def custom(path, **options):
    options.setdefault("architecture", HEADS)
    return DDPM(model="custom", checkpoint=path, **options)


def build(path, shape=(3, 16, 16), **options):
    return custom(path, **options).build(shape=shape, device=CPU)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("name", ["tiny_ruleB", "attn_multi_ruleB", "plain_ruleB"])
def test_recorded_denoisers_out_of_real_files(golden, tmp_path, name, suffix):
    arrays, params = golden(f"adm_{name}")
    flags = params["create_model"]
    heads = {k: flags[k] for k in ("num_heads", "num_head_channels")}
    levels = params["channel_mult"]
    known = {
        "model_path",
        "use_checkpoint",
        "use_fp16",
        "class_cond",
        "channel_mult",
        "attention_resolutions",
    }
    resolutions = tuple(flags["image_size"] // d for d in params["attention_ds"])
    arch = Architecture(
        channel_mult=tuple(levels),
        attention_resolutions=resolutions,
        **{k: v for k, v in flags.items() if k not in known},
    )
    path = tmp_path / f"model{suffix}"
    state = weights(arch)
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if suffix == ".pt" else {"state_dict": state, "epoch": 1}, path)
    # 32 x 32 images were given to networks for 64 x 64: what attends is told by the image size
    prior = build(path, (3, 64, 64), architecture=ArchitectureSettings(image_size=64, **heads))
    assert prior.shape == (3, 64, 64)
    x, eps = torch.tensor(arrays["x"]), torch.tensor(arrays["eps"])
    with torch.no_grad():
        for i, sigma in enumerate(params["sigmas"]):
            expected = torch.tensor(arrays[f"D_{i}"])
            found = prior.denoise(x + sigma * eps, sigma)[:1]
            assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_res_blocks": 3, "channel_mult": (1, 1, 2, 3), "attention_resolutions": (16, 4, 2)},
        {"attention_resolutions": ()},
        {"channel_mult": (2,), "attention_resolutions": (16,), "resblock_updown": False},
        {"resblock_updown": False},
        {"resblock_updown": False, "conv_resample": False, "num_res_blocks": 2},
        {"use_scale_shift_norm": False},
        {"learn_sigma": False, "num_classes": 10, "in_channels": 1},
        {"channel_mult": (0.5, 1, 2), "num_channels": 64},
    ],
)
def test_infers_the_architecture_from_the_weights(changes):
    arch = replace(TINY, **changes)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in ADM(arch).state_dict().items()}
    inferred = infer_architecture(shapes, {"num_head_channels": 16}, "file", (arch.in_channels, 16, 16))
    assert inferred == arch


def test_what_weights_do_not_show_must_be_given(checkpoint):
    with pytest.raises(UserError, match=r"give num_heads or num_head_channels in architecture"):
        build(checkpoint, architecture=ArchitectureSettings())
    old = build(checkpoint)
    new = build(
        checkpoint, architecture=ArchitectureSettings(num_head_channels=16, use_new_attention_order=True)
    )
    x = noise(1, 3, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(old.denoise(x, 1.0), new.denoise(x, 1.0), rtol=1e-3)
    with pytest.raises(ValidationError, match="custom needs checkpoint"):
        DDPM(model="custom")


def test_the_denoiser_is_the_network_behind_its_preconditioning(checkpoint):
    prior = build(checkpoint)
    x, sigma = noise(2, 3, 16, 16), torch.tensor([0.5, 7.0])
    with torch.no_grad():
        found = prior.denoise(x, sigma)
        scale = (1 + sigma**2).rsqrt().reshape(-1, 1, 1, 1)
        t = 999 * ((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
        eps = prior.network(scale * x, t)[:, :3]
        torch.testing.assert_close(found, x - sigma.reshape(-1, 1, 1, 1) * eps, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(prior.denoise(x.double(), sigma), found.double(), rtol=1e-4, atol=1e-4)
        for b in range(2):
            alone = prior.denoise(x[b : b + 1], float(sigma[b]))
            torch.testing.assert_close(found[b : b + 1], alone, rtol=1e-4, atol=1e-4)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(leaf, sigma).sum(), leaf)
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_options_do_not_change_the_denoiser(checkpoint, dtype):
    x = noise(1, 3, 16, 16)
    with torch.no_grad():
        expected = build(checkpoint).denoise(x, 1.0)
        torch.testing.assert_close(
            build(checkpoint, channels_last=False).denoise(x, 1.0), expected, rtol=1e-4, atol=1e-5
        )
        half = build(checkpoint, dtype=dtype).denoise(x, 1.0)
    assert half.dtype == torch.float32
    assert 0 < float((half - expected).abs().max()) < 0.05 * float(expected.abs().max())


@pytest.mark.slow
def test_compiles_the_network(checkpoint, monkeypatch):
    graphs = []
    monkeypatch.setattr(torch, "compile", counting_compile(graphs))
    x = noise(1, 3, 16, 16)
    with torch.no_grad():
        expected = build(checkpoint).denoise(x, 1.0)
        found = build(checkpoint, compile=True).denoise(x, 1.0)
    assert len(graphs) == 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["vp", "ddpm", "iddpm", "ve", "edm"])
def test_noise_levels_are_those_of_the_preconditioning(checkpoint, kind):
    prior = build(checkpoint, preconditioning=kind)
    expected = {
        "vp": (0.001, 152.17),
        "ddpm": (0.01, 157.41),
        "iddpm": (0.0064, 20291.9),
        "ve": (0.02, 100),
        "edm": (0.002, 80),
    }
    assert prior.sigma_range == pytest.approx(expected[kind], rel=0.01)
    with torch.no_grad():
        near = prior.denoise(noise(1, 3, 16, 16), 0.01)
    assert float((near - noise(1, 3, 16, 16)).abs().max()) < 0.2


def test_the_model_of_a_name_comes_from_the_cache(tmp_path, monkeypatch, checkpoint):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="run `daps-kit checkpoints fetch ffhq256ddpm`"):
        DDPM().build(shape=None, device=CPU)
    (tmp_path / "cache" / "checkpoints").mkdir(parents=True)
    checkpoint.rename(tmp_path / "cache" / "checkpoints" / "ffhq256.pt")
    with pytest.raises(UserError, match=r"ffhq256\.pt does not fit the network: missing: input_blocks"):
        DDPM().build(shape=None, device=CPU)
    small = ArchitectureSettings(
        image_size=16, num_channels=32, channel_mult=(1, 2), attention_resolutions=(8,), num_head_channels=16
    )
    prior = DDPM(architecture=small).build(shape=(3, 16, 16), device=CPU)
    assert prior.network.arch == TINY
    (tmp_path / "cache" / "checkpoints" / "ffhq256.pt").write_bytes(b"")
    with pytest.raises(UserError, match="has changed: 0 bytes"):
        DDPM(architecture=small).build(shape=None, device=CPU)


def test_wrong_files_stop_the_run(tmp_path, checkpoint):
    good = weights()

    def refused(tensors, match, **options):
        torch.save(tensors, tmp_path / "wrong.pt")
        with pytest.raises(UserError, match=match):
            build(tmp_path / "wrong.pt", **options)

    refused(
        {k: v for k, v in good.items() if "middle" not in k},
        r"missing: middle_block\.0\.in_layers\.0\.weight",
    )
    refused({**good, "extra": torch.ones(1)}, "unexpected: extra")
    refused({**good, "out.0.bias": torch.ones(7)}, r"out\.0\.bias \[7\] instead of \[32\]")
    refused({**good, "out.0.bias": torch.full((32,), torch.inf)}, "not finite")
    refused({**good, "out.2.weight": torch.zeros(6, 32, 3, 3)}, "was never trained")
    refused({"conv.weight": torch.ones(3)}, "is not a guided-diffusion network: it has no time_embed")
    refused({k: v for k, v in good.items() if "input_blocks.1" not in k}, "guided-diffusion network")
    refused(
        {k: v for k, v in good.items() if not k.startswith("input_blocks.3")},
        "3 input blocks do not make 2 levels",
    )
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cut short"):
        build(checkpoint)


def test_the_shape_of_the_run_must_be_that_of_the_model(checkpoint):
    flags = ArchitectureSettings(image_size=16, num_head_channels=16)
    with pytest.raises(
        UserError, match=r"images of shape \[3, 16, 16\], but those of the run have \[3, 32, 32\]"
    ):
        build(checkpoint, (3, 32, 32), architecture=flags)
    assert build(checkpoint, None, architecture=flags).shape == (3, 16, 16)


def test_classes(tmp_path):
    torch.save(weights(replace(TINY, num_classes=4)), tmp_path / "classes.pt")
    with pytest.raises(UserError, match="class-conditional: give label, 0 to 3"):
        build(tmp_path / "classes.pt")
    with pytest.raises(UserError, match="label is 4, but allowed is 0 to 3"):
        build(tmp_path / "classes.pt", label=4)
    first, second = (build(tmp_path / "classes.pt", label=label) for label in (0, 3))
    x = noise(2, 3, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(first.denoise(x, 1.0), second.denoise(x, 1.0))
        t, label = torch.tensor([40.0]), torch.tensor([3])
        assert torch.equal(second._predict(x, t), second.network(x, t, label)[:, :3])
    torch.save(weights(), tmp_path / "none.pt")
    with pytest.raises(UserError, match="label is 0, but allowed is none"):
        build(tmp_path / "none.pt", label=0)


def test_averaged_weights_are_taken_unless_asked_otherwise(tmp_path):
    raw = weights()
    average = {name: tensor * 0.9 for name, tensor in raw.items()}
    torch.save({"model": raw, "ema": average}, tmp_path / "both.pt")
    assert torch.equal(build(tmp_path / "both.pt").network.out[2].weight, average["out.2.weight"])
    assert torch.equal(build(tmp_path / "both.pt", weights="raw").network.out[2].weight, raw["out.2.weight"])


def test_building_leaves_the_global_random_state_alone(checkpoint):
    before = torch.get_rng_state()
    prior = build(checkpoint)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in prior.network.parameters())
    assert not prior.network.training
