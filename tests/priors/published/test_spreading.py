"""A network that is spread over devices, or kept elsewhere, is the same network: values, gradients, a whole run."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from tiny_models import SHORT_RUN, autoencoder, pixel_unet, save_parts

import daps_kit
from daps_kit.errors import ComponentError, UserError
from daps_kit.fingerprint import cache_root
from daps_priors.published.spreading import Spread, handed, spelt_out
from tests.priors.published.small import noise
from tests.priors.published.small_pipelines import build, build_stable, push_and_pull


def test_what_is_said_of_a_part():
    spread = Spread(
        {"unet.conv_in": 0, "unet": "cpu", "vae.decoder.conv_in": "disk"}, {"0": "1GiB", "cpu": 7}
    )
    assert spread.of("unet") == {"conv_in": 0, "": "cpu"}
    assert spread.of("vae") == {"decoder.conv_in": "disk"}
    assert spread.of("text_encoder") is None
    assert spread.memory == {0: "1GiB", "cpu": 7}
    assert (Spread().of("unet"), Spread().memory) == (None, None)
    assert Spread("auto").of("vae") == "auto"


def test_a_map_names_modules_and_leaves_none_out():
    network = torch.nn.Sequential()
    network.add_module("first", torch.nn.Linear(1, 1))
    network.add_module("second", torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU()))
    maps = {
        "all": ({"": 0}, {"": 0}),
        "each": ({"first": 0, "second": "cpu"}, {"first": 0, "second": "cpu"}),
        "a part of a part": ({"second.0": 1, "": 2}, {"first": 2, "second.0": 1, "second.1": 2}),
        "both": ({"second": 0, "second.1": 1, "": 2}, {"first": 2, "second.0": 0, "second.1": 1}),
    }
    for said, expected in maps.values():
        assert spelt_out(network, "unet", said) == expected
    network.register_parameter("own", torch.nn.Parameter(torch.zeros(1)))
    assert spelt_out(network, "unet", {"first": 0, "": 1}) == {"own": 1, "first": 0, "second": 1}
    with pytest.raises(ComponentError, match="unet has no module frist; did you mean 'first'"):
        spelt_out(network, "unet", {"frist": 0, "": 1})
    with pytest.raises(ComponentError, match="unet has no module xyz; it has first, second$"):
        spelt_out(network, "unet", {"xyz": 0, "": 1})
    with pytest.raises(ComponentError, match=r"no device for unet\.own; unet is that of all"):
        spelt_out(network, "unet", {"first": 0, "second.1": 1})


def test_what_a_network_is_given_comes_to_its_weights():
    def network(*devices: str) -> SimpleNamespace:
        weights = [SimpleNamespace(device=torch.device(device)) for device in devices]
        return SimpleNamespace(parameters=lambda: iter(weights), dtype=torch.bfloat16)

    x = torch.zeros(2, requires_grad=True)
    assert handed(x, network("cpu")).dtype == torch.bfloat16
    assert handed(x, network("meta", "cpu")).device.type == "cpu"
    assert handed(x.to("meta"), network("meta")).device.type == "meta"
    handed(x, network("cpu")).sum().backward()
    assert x.grad is not None


def test_accelerate_is_told_to_be_missing(ddpm, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        UserError, match=r"this prior needs accelerate, .*pip install 'daps-kit\[sd\]'"
    ) as caught:
        build(ddpm, device_map="offload")
    assert "\n" not in str(caught.value)


@pytest.fixture
def _cache(tmp_path, monkeypatch):
    pytest.importorskip("accelerate", reason="the extra 'sd' is not installed")
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path / "cache"))


DISK = {"unet.mid_block": "disk", "unet.up_blocks": "disk", "unet": "cpu"}
STABLE = {
    "offload": {"device_map": "offload"},
    "one device": {"device_map": {"unet": "cpu", "vae": "cpu"}},
    "disk": {"device_map": {**DISK, "vae.decoder": "disk", "vae": "cpu"}},
    "a strategy": {"device_map": "sequential", "max_memory": {"cpu": "500KB"}},
}


def kept_elsewhere(network) -> bool:
    """Whether some of its weights are not in memory but while they are at work."""
    return any(weight.device.type == "meta" for weight in network.parameters())


def values(prior, x, sigma):
    """Return D(x, sigma), the decoded image and the gradients of both."""
    leaf = x.clone().requires_grad_()
    found = [prior.denoise(leaf, sigma), prior.decode(leaf)]
    return [t.detach() for t in found] + [torch.autograd.grad(t.square().sum(), leaf)[0] for t in found]


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("options", STABLE.values(), ids=STABLE)
def test_stable_diffusion_is_the_same(stable, options, caplog):
    z, sigma = noise(2, 4, 16, 16), torch.tensor([0.3, 5.0])
    caplog.set_level(logging.WARNING)
    whole, spread = build_stable(stable[0]), build_stable(stable[0], **options)
    for found, expected in zip(values(spread, z, sigma), values(whole, z, sigma), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        image = noise(1, 3, 32, 32)
        torch.testing.assert_close(spread.encode(image), whole.encode(image), rtol=1e-5, atol=1e-6)
    push_and_pull(spread, z)
    assert kept_elsewhere(spread.unet) == (options != STABLE["one device"])
    assert not kept_elsewhere(whole.unet)
    assert [record.message for record in caplog.records if "accelerate" in record.name] == []


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("device_map", ["offload", DISK], ids=["offload", "disk"])
@pytest.mark.parametrize("latent", [False, True])
def test_unconditional_pipelines_are_the_same(ddpm, tmp_path, device_map, latent):
    if latent:
        scheduler = pytest.importorskip("diffusers").DDIMScheduler(clip_sample=False)
        parts = {"vqvae": autoencoder("VQModel", num_vq_embeddings=16), "scheduler": scheduler}
        folder = save_parts(
            tmp_path / "l", "LDMPipeline", unet=pixel_unet(in_channels=4, out_channels=4), **parts
        )
    else:
        folder = ddpm
    x, sigma = noise(2, 4 if latent else 3, 8, 8), torch.tensor([0.3, 5.0])
    whole, spread = build(folder), build(folder, device_map=device_map)
    for found, expected in zip(values(spread, x, sigma), values(whole, x, sigma), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert kept_elsewhere(spread.unet)
    half = build(folder, device_map=device_map, dtype="bfloat16")
    with torch.no_grad():
        expected = build(folder, dtype="bfloat16").denoise(x, sigma)
        torch.testing.assert_close(half.denoise(x, sigma), expected, rtol=1e-2, atol=1e-2)
    assert half.unet.dtype == torch.bfloat16


@pytest.mark.usefixtures("_cache")
def test_what_is_on_the_disk_goes_with_the_prior(ddpm):
    prior = build(ddpm, device_map=DISK)
    (folder,) = (cache_root() / "offload").iterdir()
    assert list(folder.iterdir())
    del prior
    gc.collect()
    assert not folder.exists()


@pytest.mark.usefixtures("_cache")
def test_what_cannot_be_spread_is_told_in_a_line(ddpm, stable):
    with pytest.raises(ComponentError, match="device_map: auto cannot spread a UNet2DModel; say where"):
        build(ddpm, device_map="auto")
    with pytest.raises(ComponentError, match=r"unet has no module mid_blok; did you mean 'mid_block'"):
        build_stable(stable[0], device_map={"unet.mid_blok": "cpu", "unet": "cpu"})
    with pytest.raises(ComponentError, match=r"no device for unet\.conv_in"):
        build_stable(stable[0], device_map={"unet.mid_block": "cpu"})
    with pytest.raises(UserError, match="device_map") as caught:
        build_stable(stable[0], device_map={"unet": 7})
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_cache")
def test_damaged_weights_are_seen(ddpm):
    from safetensors.torch import load_file, save_file

    path = next(Path(ddpm / "unet").glob("*.safetensors"))
    good = load_file(path)
    save_file({**good, "conv_out.bias": torch.full((3,), torch.nan)}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"conv_out\.bias holds numbers that are not finite"):
        build(ddpm, device_map=DISK)
    save_file({k: v for k, v in good.items() if k != "conv_in.bias"}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"do not fit UNet2DModel: missing: conv_in\.bias"):
        build(ddpm, device_map=DISK)
    assert not list((cache_root() / "offload").iterdir())


@pytest.mark.usefixtures("_cache")
def test_a_run_draws_the_same(stable, tmp_path):
    found = []
    for name, options in (("whole", {}), ("offload", STABLE["offload"])):
        prior = {"use": "stable_diffusion", "model": str(stable[0]), "prompt": "a face", "resolution": 8}
        path = tmp_path / f"{name}.yaml"
        content = SHORT_RUN | {"prior": prior | options, "output": str(tmp_path / name)}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        found.append(daps_kit.run(path, quiet=True).samples)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
