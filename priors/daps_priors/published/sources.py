"""Where the published weights of the priors can be fetched."""

from __future__ import annotations

from daps_kit.sources import Source

__all__ = ["NOT_PIPELINE", "PIPELINE", "SOURCES"]

PIPELINE = ("*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors")
"""The files of a repository that make a pipeline of diffusers: beside its folders lie copies in other formats."""
NOT_PIPELINE = ("*fp16*", "*non_ema*", "safety_checker/*")

SOURCES = (
    Source(
        name="ffhq256ddpm",
        file="ffhq256.pt",
        kind="drive",
        location="1BGwhRWUoguF-D8wlZ65tf227gp3cDUDh",
        about="faces, 256 x 256: guided-diffusion U-Net over pixels",
    ),
    Source(
        name="imagenet256ddpm",
        file="imagenet256.pt",
        kind="drive",
        location="1HAy7P19PckQLczVNXmVF-e_CRxq098uW",
        about="ImageNet, 256 x 256: guided-diffusion U-Net over pixels, unconditional",
    ),
    Source(
        name="ffhq256ldm",
        file="ffhq256ldm.ckpt",
        kind="http",
        location="https://ommer-lab.com/files/latent-diffusion/ffhq.zip",
        about="faces, 256 x 256: latent diffusion, VQ-f4",
        member="model.ckpt",
    ),
    Source(
        name="imagenet256ldm",
        file="imagenet256ldm.ckpt",
        kind="http",
        location="https://ommer-lab.com/files/latent-diffusion/nitro/cin/model.ckpt",
        about="ImageNet, 256 x 256: latent diffusion, VQ-f4, class-conditional",
    ),
    Source(
        name="stable-diffusion-v1.5",
        file="stable-diffusion-v1.5",
        kind="hub",
        location="stable-diffusion-v1-5/stable-diffusion-v1-5",
        about="Stable Diffusion 1.5, 512 x 512",
        include=PIPELINE,
        exclude=NOT_PIPELINE,
    ),
    Source(
        name="stable-diffusion-v2.1",
        file="stable-diffusion-v2.1",
        kind="hub",
        location="stabilityai/stable-diffusion-2-1",
        about="Stable Diffusion 2.1, 768 x 768",
        include=PIPELINE,
        exclude=NOT_PIPELINE,
    ),
)
