r"""Small models in the file formats of the published ones, with weights set by hand so that what they do is known.

They are exact priors, z ~ N(0, I), and autoencoders that give back what they are given. Three devices make it so:

    silu(a) - silu(-a) = a           two channels of opposite sign carry a number through an activation unchanged
    group norm of (x, -x, c, -c)     is x (2 / c^2)^{1/2} to one part in c^2, if c is large: linear in x
    c = c(t)                         and then a gain that depends on the time

The noise in x_t = (1 - v)^{1/2} x0 + v^{1/2} n, of data of unit variance, is v^{1/2} x_t on average, a gain; a network
that predicts x_t's velocity instead has nothing to predict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daps_priors.published.adm import ADM, Architecture
from daps_priors.published.ldm import LatentDiffusion, scaled_linear_betas
from daps_priors.published.vq import VQArchitecture

SHORT_RUN: dict[str, Any] = {
    "format": 1,
    "data": {"use": "prior", "count": 1},
    "operator": {"use": "down_sampling", "scale_factor": 2},
    "sampler": {
        "use": "daps",
        "annealing": {"levels": 2, "sigma_max": 10.0, "sigma_min": 0.1},
        "ode": {"steps": 2},
        "kernel": {"use": "underdamped", "steps": 2, "lr": 1.0e-5},
    },
    "check_prior": False,
}
"""A recipe that runs such a prior; it lacks `prior` and `output`."""

LARGE = 30.0
WIDTH = 4  # channels of a group


def _random(module: nn.Module) -> dict[str, Tensor]:
    """Return weights of ordinary size, always the same."""
    state = {}
    for k, (name, tensor) in enumerate(module.state_dict().items()):
        r = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(k))
        state[name] = r / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 0.1 * r + name.endswith("weight")
    return state


def spread(weight: Tensor, constant: Tensor | None = None) -> None:
    """Have a convolution write its input x into channels (x, -x, c, -c), one group for each channel of x."""
    weight.zero_()
    middle = weight.shape[-1] // 2
    for c in range(weight.shape[1]):
        weight[WIDTH * c, c, middle, middle] = 1
        weight[WIDTH * c + 1, c, middle, middle] = -1
        if constant is not None:
            constant[WIDTH * c : WIDTH * (c + 1)] = torch.tensor([0, 0, LARGE, -LARGE])


def gather(weight: Tensor, channels: int) -> None:
    """Have a convolution read x from channels (a, -a, ...) that went through an activation."""
    weight[:channels].zero_()
    middle = weight.shape[-1] // 2
    for c in range(channels):
        weight[c, WIDTH * c, middle, middle] = 1
        weight[c, WIDTH * c + 1, middle, middle] = -1


# --- networks that predict noise ---------------------------------------------------------------------------------


def noise_share(betas: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v(t), the variance of the noise at step t of a discrete process."""
    log_a = torch.log1p(-betas.double()).cumsum(0)

    def share(t: Tensor) -> Tensor:
        low = t.floor().long().clamp(0, len(betas) - 2)
        return -torch.expm1(log_a[low] + (t - low) * (log_a[low + 1] - log_a[low]))

    return share


def gaussian_unet(network: ADM, share: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return weights with which a network predicts the noise of N(0, I) exactly; most do something and count nothing.

    Args:
        network: of 128 channels at the finest resolution, without attention there.
        share: the variance of the noise at time t.
    """
    arch, state = network.arch, _random(network)
    width, last = arch.widths[0], f"output_blocks.{len(network.output_blocks) - 1}.0."
    spread(state["input_blocks.0.0.weight"])
    state["input_blocks.0.0.bias"].zero_()

    # The last block passes the first one's channels on and writes +-c(t) beside them.
    for name in ("in_layers.2.weight", "in_layers.2.bias", "out_layers.3.weight", "out_layers.3.bias"):
        state[last + name].zero_()
    state[last + "out_layers.0.weight"].fill_(1)
    state[last + "out_layers.0.bias"].zero_()
    state[last + "skip_connection.bias"].zero_()
    skip = state[last + "skip_connection.weight"].zero_()
    skip[:, -width:, 0, 0] = torch.eye(width)

    t = torch.linspace(0, 999, 4001, dtype=torch.float64)
    gain = (0.99 * share(t) + 0.01).sqrt()  # not quite to zero, where it hardly matters
    wanted = 0.1 / gain  # c / (10 LARGE)
    if arch.use_scale_shift_norm:
        scale, offset = 10 * LARGE, width
    else:
        # Beside a constant of one, group norm makes u = e (2 / (1 + e^2))^{1/2} of e.
        scale, offset = 10 * LARGE / 1.2, 0
        u = 1.2 * wanted
        wanted = u / (2 - u * u).sqrt()
    weight, bias = _time_function(network, state, t, wanted)
    state[last + "emb_layers.1.weight"].zero_()
    state[last + "emb_layers.1.bias"].zero_()
    for channel, sign in ((0, 1), (1, -1)):
        state[last + "emb_layers.1.weight"][offset + channel] = sign * weight
        state[last + "emb_layers.1.bias"][offset + channel] = sign * bias
    if not arch.use_scale_shift_norm:
        state[last + "emb_layers.1.bias"][2:4] = torch.tensor([1.0, -1.0])
    for c in range(arch.in_channels):
        for channel, sign in ((WIDTH * c + 2, 1), (WIDTH * c + 3, -1)):
            state[last + "out_layers.3.weight"][channel, 0, 1, 1] = sign * scale
            state[last + "out_layers.3.weight"][channel, 1, 1, 1] = -sign * scale

    state["out.0.weight"].fill_(LARGE / math.sqrt(2))
    state["out.0.bias"].zero_()
    gather(state["out.2.weight"], arch.in_channels)
    state["out.2.bias"].zero_()
    return state


def _time_function(
    network: ADM, state: dict[str, Tensor], t: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return weight and bias that make a given function of time of the network's embedding, by least squares."""
    # Of the sines and cosines of time, the slow ones, for smooth functions.
    half = network.arch.num_channels // 2
    slow = (torch.exp(-math.log(10000) / half * torch.arange(half)) < 0.1).repeat(2)
    first = state["time_embed.0.weight"]
    first.mul_(3 * slow / (first.std() * slow.sum().sqrt()))
    h = network.embed(t.float()).double()
    for layer in ("0", "2"):
        h = h @ state[f"time_embed.{layer}.weight"].double().T + state[f"time_embed.{layer}.bias"].double()
        h = nn.functional.silu(h)
    features = torch.cat([h, torch.ones(len(h), 1, dtype=torch.float64)], 1)
    rows = features / wanted[:, None]  # relative errors
    ridge = 0.03 * torch.eye(features.shape[1], dtype=torch.float64)
    solution = torch.linalg.lstsq(
        torch.cat([rows, ridge]), torch.cat([torch.ones_like(wanted), torch.zeros(len(ridge))])[:, None]
    ).solution[:, 0]
    return solution[:-1].float(), solution[-1].float()


# --- autoencoders ------------------------------------------------------------------------------------------------


def identity_autoencoder(state: dict[str, Tensor], channels: int = 3) -> None:
    """Have an autoencoder, ours or one of diffusers, pass colours on: every second pixel out, each twice back in.

    Its groups have four channels, and there are as many at every resolution.
    """
    for name, tensor in state.items():
        parts = name.split(".")
        if "conv2" in parts or "proj_out" in parts or "to_out" in parts:
            tensor.zero_()  # residual blocks and attention add nothing
        elif "downsample" in name or "upsample" in name:
            tensor.zero_()
            if tensor.ndim == 4:
                place = 0 if "downsample" in name else 1  # those that halve are padded at the far edges
                tensor[:, :, place, place] = torch.eye(len(tensor))
        elif parts[0] in ("quant_conv", "post_quant_conv"):
            tensor.zero_()
            if tensor.ndim == 4:
                tensor[range(channels), range(channels), 0, 0] = 1
    for end in ("encoder", "decoder"):
        norm = f"{end}.norm_out" if f"{end}.norm_out.weight" in state else f"{end}.conv_norm_out"
        spread(state[f"{end}.conv_in.weight"][:, :channels], state[f"{end}.conv_in.bias"].zero_())
        state[f"{end}.conv_in.weight"][:, channels:] = 0
        state[f"{norm}.weight"].fill_(LARGE / math.sqrt(2))
        state[f"{norm}.bias"].zero_()
        state[f"{end}.conv_out.weight"].zero_()
        gather(state[f"{end}.conv_out.weight"], channels)
        state[f"{end}.conv_out.bias"].zero_()


# --- files -------------------------------------------------------------------------------------------------------

PIXELS = Architecture(
    image_size=8,
    num_channels=128,
    num_res_blocks=1,
    channel_mult=(1, 1),
    attention_resolutions=(4,),
    num_head_channels=32,
    resblock_updown=True,
    learn_sigma=True,
)


def save_ddpm(path: Path) -> Path:
    """Save a guided-diffusion network for 8 x 8 images, of the published preconditioning (vp)."""
    with torch.device("meta"):
        network = ADM(PIXELS)
    network = network.to_empty(device="cpu")

    def share(t: Tensor) -> Tensor:
        return -torch.expm1(-(19.9 * (t / 999) ** 2 / 2 + 0.1 * t / 999))

    torch.save(gaussian_unet(network, share), path)
    return path


def save_ldm(path: Path, side: int = 8) -> Path:
    """Save a latent diffusion model as its trainer does, of latents with `side` pixels and images with twice as many."""
    arch = Architecture(
        image_size=side,
        num_channels=128,
        num_res_blocks=1,
        channel_mult=(1, 1),
        attention_resolutions=(side // 2,),
        num_head_channels=32,
        use_scale_shift_norm=False,
    )
    with torch.device("meta"):
        model = LatentDiffusion(arch, VQArchitecture(width=128, multipliers=(1, 1), blocks=1, codes=9**3))
    model = model.to_empty(device="cpu")
    unet = gaussian_unet(model.network, noise_share(scaled_linear_betas()))
    first_stage = _random(model.first_stage_model)
    identity_autoencoder(first_stage)
    steps = torch.linspace(-2, 2, 9)
    first_stage["quantize.embedding.weight"] = torch.cartesian_prod(steps, steps, steps)
    state = {f"model.diffusion_model.{name}": t for name, t in unet.items()}
    state |= {f"first_stage_model.{name}": t for name, t in first_stage.items()}
    torch.save({"epoch": 3, "state_dict": {"betas": scaled_linear_betas().float(), **state}}, path)
    return path


# --- pipelines of diffusers --------------------------------------------------------------------------------------


def seeded(kind: Any, **config: Any) -> Any:
    """Return a network of diffusers with weights of its own drawing, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(**config).eval().requires_grad_(False)


def pixel_unet(**changes: Any) -> Any:
    """Return a U-Net for 8 x 8 images."""
    import diffusers

    config = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (32, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    }
    return seeded(diffusers.UNet2DModel, **{**config, **changes})


def autoencoder(kind: str = "AutoencoderKL", **changes: Any) -> Any:
    """Return an autoencoder that halves 16 x 16 images, of latents with 4 channels."""
    import diffusers

    config = {
        "block_out_channels": (16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "sample_size": 16,
        "scaling_factor": 0.4,
    }
    return seeded(getattr(diffusers, kind), **{**config, **changes})


def passing(stage: Any) -> Any:
    """Return an autoencoder of diffusers that passes colours on."""
    state = stage.state_dict()
    identity_autoencoder(state)
    stage.load_state_dict(state)
    return stage


def silenced(unet: Any) -> Any:
    """Return a network of diffusers whose output is zero."""
    unet.conv_norm_out.weight.zero_()
    unet.conv_norm_out.bias.zero_()
    unet.conv_out.bias.zero_()
    return unet


def save_parts(folder: Path, kind: str, **parts: Any) -> Path:
    """Save parts as a pipeline; for kinds that newer versions of the library no longer have."""
    index: dict[str, Any] = {"_class_name": kind}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def stable_diffusion(folder: Path, *, vae: Any = None, unet: Any = None, scheduler: Any = None) -> Any:
    """Return a small Stable Diffusion; `folder` takes the files of its tokenizer."""
    import diffusers
    import transformers

    words = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24
    )
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = transformers.CLIPTextModel(text).eval()
    return diffusers.StableDiffusionPipeline(
        vae=vae or autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet or conditional_unet(),
        scheduler=scheduler or diffusers.PNDMScheduler(**STABLE_SCHEDULE, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


STABLE_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def conditional_unet(**changes: Any) -> Any:
    """Return a U-Net over latents of 16 x 16 that listens to a text."""
    import diffusers

    config = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return seeded(diffusers.UNet2DConditionModel, **{**config, **changes})


def save_pixel_pipeline(folder: Path) -> Path:
    """Save a pixel pipeline that is an exact N(0, I)."""
    import diffusers

    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction", clip_sample=False)
    diffusers.DDPMPipeline(silenced(pixel_unet()), scheduler).save_pretrained(folder)
    return folder


def save_latent_pipeline(folder: Path) -> Path:
    """Save a latent pipeline that is an exact N(0, I), with an autoencoder that rounds to codes."""
    import diffusers

    stage = passing(autoencoder("VQModel", num_vq_embeddings=9**3, norm_num_groups=4, scaling_factor=1.0))
    steps = torch.linspace(-2, 2, 9)
    codes = torch.cartesian_prod(steps, steps, steps)
    stage.quantize.embedding.weight.data = torch.cat([codes, torch.zeros(len(codes), 1)], 1)
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    unet = silenced(pixel_unet(in_channels=4, out_channels=4))
    return save_parts(folder, "LDMPipeline", vqvae=stage, unet=unet, scheduler=scheduler)


def save_stable_diffusion(folder: Path) -> Path:
    """Save a Stable Diffusion whose latents are an exact N(0, I)."""
    import diffusers

    scheduler = diffusers.DDIMScheduler(
        **STABLE_SCHEDULE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
    )
    vae = passing(autoencoder(norm_num_groups=4, scaling_factor=1.0))
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = stable_diffusion(folder, vae=vae, unet=silenced(conditional_unet()), scheduler=scheduler)
    pipeline.save_pretrained(folder / "model")
    return folder / "model"
