"""The guided-diffusion U-Net: recorded numbers, a plain rendering, published names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.networks import PlainADM
from daps_priors.published.adm import ADM, Architecture
from daps_priors.published.ddpm import ARCHITECTURES, DDPMPrior, infer_architecture
from daps_priors.published.preconditioning import VP
from tests.priors.published.small import TINY, error, noise

GOLDEN = Path(__file__).parents[2] / "golden"


RECORDED = ["tiny_ruleA", "tiny_ruleB", "tiny_64_ruleB", "attn_multi_ruleB", "neworder_ruleB", "plain_ruleB"]


NOT_ARCHITECTURE = {"model_path", "use_checkpoint", "use_fp16", "class_cond"}


def numbers(text: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(text).split(",") if part)


def recorded_architecture(flags: dict[str, Any]) -> Architecture:
    known = {name: value for name, value in flags.items() if name not in NOT_ARCHITECTURE}
    for name in ("channel_mult", "attention_resolutions"):
        known[name] = numbers(known[name])
    return Architecture(**known)


def fill(network: nn.Module, rule: str) -> None:
    """Set the weights by the rule that the recorded networks were filled by."""
    for k, (name, tensor) in enumerate(network.state_dict().items()):
        r = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(k))
        if rule == "A":
            tensor.copy_(0.02 * r)
        elif tensor.ndim >= 2:
            tensor.copy_(r / tensor[0].numel() ** 0.5)
        else:
            tensor.copy_(1 + 0.1 * r if name.endswith("weight") else 0.1 * r)


def build(arch: Architecture, rule: str = "B", *, channels_last: bool = True) -> ADM:
    network = ADM(arch)
    fill(network, rule)
    network.requires_grad_(False).eval()
    return network.to(memory_format=torch.channels_last) if channels_last else network


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", RECORDED)
def test_equals_the_recorded_outputs(golden, name, gradient, channels_last):
    arrays, params = golden(f"adm_{name}")
    network = build(
        recorded_architecture(params["create_model"]), name.partition("rule")[2], channels_last=channels_last
    )
    total = sum(float(t.double().sum()) for t in network.state_dict().values())
    assert total == pytest.approx(params["fingerprint"]["sum_of_all_weights_f64"], rel=1e-9)
    with torch.set_grad_enabled(gradient):
        found = network(torch.tensor(arrays["x"]), torch.tensor(arrays["t"]))
    assert error(found, arrays["unet_out"]) < 1e-4


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "tiny_64_ruleB"])
def test_equals_the_recorded_denoiser_and_score(golden, name):
    arrays, params = golden(f"adm_{name}")
    prior = DDPMPrior(build(recorded_architecture(params["create_model"]), name.partition("rule")[2]), VP())
    x, eps = torch.tensor(arrays["x"]), torch.tensor(arrays["eps"])
    with torch.no_grad():
        for i, sigma in enumerate(params["sigmas"]):
            found = prior.denoise(x + sigma * eps, sigma)
            assert error(found[:1], arrays[f"D_{i}"]) < 1e-4
        batch = torch.tensor(params["sigma_batch"])
        found = prior.denoise(x + batch[:, None, None, None] * eps, batch)
        assert error(found, arrays["D_batch"]) < 1e-4
        sigma = params["sigmas"][1]
        assert error(prior.score(x + sigma * eps, sigma)[:1], arrays["score_1"]) < 1e-4
    times = prior.precondition.coefficients(torch.tensor(params["sigmas"], dtype=torch.float64)).noise
    # The recorded times were computed in float32, where 1 + 0.02^2 has four digits of what matters.
    assert times.tolist() == pytest.approx(params["c_noise"], rel=1e-5, abs=5e-4)


@pytest.mark.parametrize("model", ["ffhq256", "imagenet256"])
def test_names_and_shapes_of_weights_are_the_published_ones(model):
    lines = (GOLDEN / f"adm_{model}_state_dict.txt").read_text(encoding="utf-8").splitlines()
    published = {name: tuple(map(int, shape.split("x"))) for name, shape in map(str.split, lines)}
    with torch.device("meta"):
        network = ADM(ARCHITECTURES[model])
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == published
    assert infer_architecture(published, {"num_head_channels": 64}, "file", (3, 256, 256)) == Architecture(
        **{**vars(ARCHITECTURES[model]), "channel_mult": (1, 1, 2, 2, 4, 4)}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_new_attention_order": True, "num_head_channels": -1, "num_heads": 2},
        {"use_scale_shift_norm": False},
        {"resblock_updown": False},
        {
            "learn_sigma": False,
            "num_res_blocks": 2,
            "channel_mult": (2, 1, 3),
            "attention_resolutions": (16, 4),
        },
        {"image_size": 64, "num_channels": 64},
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_a_plain_rendering(changes, batch):
    arch = Architecture(**{**vars(TINY), **changes})
    network = build(arch)
    with torch.device("meta"):
        plain = PlainADM(arch) if arch.resblock_updown else None
    x, t = noise(batch, 3, arch.image_size, arch.image_size), torch.tensor([3.0, 700.0][:batch])
    if (
        plain is None
    ):  # the plain rendering has residual blocks only; gradients take the other path through the code
        with torch.enable_grad():
            expected = network(x, t)
    else:
        plain.load_state_dict(network.state_dict(), assign=True)
        expected = plain(x, t)
    with torch.no_grad():
        found = network(x, t)
        again = network(x, t)
    assert error(found, expected) < 1e-5
    assert torch.equal(found, again)
    assert torch.equal(x, noise(batch, 3, arch.image_size, arch.image_size))


def test_one_time_for_all_is_the_same_as_one_for_each():
    network, x = build(TINY), noise(3, 3, 16, 16)
    with torch.no_grad():
        shared, each = network(x, torch.tensor([40.5])), network(x, torch.full((3,), 40.5))
        alone = network(x[1:2], torch.tensor([40.5]))
    assert error(shared, each) < 1e-5
    assert error(shared[1:2], alone) < 1e-5


@pytest.mark.parametrize("updown", [True, False])
def test_gradient_by_the_input_with_frozen_weights(updown):
    network = build(Architecture(**{**vars(TINY), "resblock_updown": updown}))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    t = torch.tensor([100.0])
    x, direction = noise(1, 3, 16, 16), noise(1, 3, 16, 16, seed=1)
    weight = noise(1, 6, 16, 16, seed=2)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((network(leaf, t) * weight).sum(), leaf)
    with torch.no_grad():
        values = {s: (network(x + 0.02 * s * direction, t).double() * weight).sum() for s in (-2, -1, 1, 2)}
    difference = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * 0.02)
    assert float((gradient.double() * direction).sum()) == pytest.approx(float(difference), rel=1e-3)


def test_a_class_adds_its_embedding_to_that_of_the_time():
    arch = Architecture(**{**vars(TINY), "num_classes": 5})
    network = build(arch)
    plain = build(TINY)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k != "label_emb.weight"})
    x, t = noise(2, 3, 16, 16), torch.tensor([9.0])
    with torch.no_grad():
        found = network(x, t, torch.tensor([1, 4]))
        for row, label in ((0, 1), (1, 4)):
            plain.time_embed[2].bias.copy_(network.time_embed[2].bias + network.label_emb.weight[label])
            assert error(found[row : row + 1], plain(x[row : row + 1], t)) < 1e-5
        with pytest.raises(ValueError, match="label is needed exactly"):
            network(x, t)
        with pytest.raises(ValueError, match="label is needed exactly"):
            plain(x, t, torch.tensor([1]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.006)])
@pytest.mark.parametrize("batch_of_times", [1, 2])
def test_half_precision_comes_near(dtype, tolerance, batch_of_times):
    x, t = noise(2, 3, 16, 16), torch.tensor([30.0, 500.0])[:batch_of_times]
    with torch.no_grad():
        expected = build(TINY)(x, t)
        found = build(TINY).compute_in(dtype)(x, t)
    assert found.dtype == torch.float32
    assert 0 < error(found, expected) < tolerance


def test_plain_layers_without_convolutions_halve_and_double():
    arch = Architecture(**{**vars(TINY), "resblock_updown": False, "conv_resample": False})
    network = build(arch)
    assert not any(".op." in name or ".conv." in name for name in network.state_dict())
    with torch.no_grad():
        x = noise(1, 32, 16, 16)
        halved = network.input_blocks[2]([x.clone()], noise(1, 128))
        doubled = network.output_blocks[1][-1](halved)
    assert torch.equal(halved, functional.avg_pool2d(x, 2))
    assert torch.equal(doubled, halved.repeat_interleave(2, 2).repeat_interleave(2, 3))
