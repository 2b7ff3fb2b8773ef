"""A latent diffusion model of small networks, and its checkpoints."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch

from daps_priors.published.adm import Architecture
from daps_priors.published.latent_settings import LDM, LatentArchitectureSettings
from daps_priors.published.ldm import LatentDiffusion, scaled_linear_betas
from daps_priors.published.vq import VQArchitecture

GOLDEN = Path(__file__).parents[2] / "golden"


CPU = torch.device("cpu")


UNET = Architecture(
    image_size=8,
    num_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(4,),
    num_head_channels=32,
    use_scale_shift_norm=False,
)


FIRST_STAGE = VQArchitecture(width=32, multipliers=(1, 2), blocks=1, codes=64)


CLASSES = {"classes": 11, "context": 24}


HEADS = LatentArchitectureSettings(num_head_channels=32)


def filled(module, rule="B"):
    """Return the state dict of a module with the weights of the recorded networks."""
    state = {}
    for k, (name, tensor) in enumerate(module.state_dict().items()):
        r = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(k))
        if rule == "A":
            state[name] = 0.02 * r
        else:
            state[name] = (
                r / tensor[0].numel() ** 0.5 if tensor.ndim >= 2 else 0.1 * r + name.endswith("weight")
            )
    return state


def weights(arch=UNET, first_stage=FIRST_STAGE, rule="B", **options):
    with torch.device("meta"):
        model = LatentDiffusion(arch, first_stage, **options)
    state = {}
    for prefix in ("model.diffusion_model", "first_stage_model", "cond_stage_model"):
        if hasattr(model, prefix.partition(".")[0]):
            part = filled(model.get_submodule(prefix), rule)
            state.update({f"{prefix}.{name}": tensor for name, tensor in part.items()})
    return state


def lightning(state, path, **more):
    """Save weights as a trainer did: with its schedule, its counters, and objects of classes that nobody has here."""
    module = types.ModuleType("a_training_library")
    module.Callback = type("Callback", (), {"__module__": "a_training_library"})
    sys.modules["a_training_library"] = module
    try:
        betas = scaled_linear_betas().float()
        schedule = {"betas": betas, "alphas_cumprod": (1 - betas).cumprod(0)}
        content = {
            "epoch": 3,
            "state_dict": {**schedule, **state, **more},
            "callbacks": {"x": module.Callback()},
        }
        torch.save(content, path)
    finally:
        del sys.modules["a_training_library"]
    return path


def build(path, shape=(3, 16, 16), **options):
    options.setdefault("architecture", HEADS)
    return LDM(model="custom", checkpoint=path, **options).build(shape=shape, device=CPU)


def relative(found, expected):
    expected = torch.as_tensor(expected)
    return float((found - expected).abs().max() / expected.abs().max())
