"""The numbers that the DAPS paper reports, and the problems that they were measured on.

256 x 256 images, 100 test images of FFHQ or ImageNet, Gaussian noise of standard deviation 0.05 on every measurement.
PSNR in dB; LPIPS with VGG features as `piq` has it, FID with torchvision's Inception features over the 100 images.
Where a task is run several times (phase retrieval: four times), the best run of each image counts, by each metric
against the truth.

Source: Zhang et al., "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR 2025,
arXiv 2407.01521; problems and models as in the implementation that its authors released.

Importing this module does not import torch.
"""

from __future__ import annotations

from typing import Any

__all__ = ["METRICS", "MODELS", "NUMBERS", "TASKS"]

METRICS = ("psnr", "ssim", "lpips_piq", "fid_torchvision")
"""The metrics of the paper, by their names in metrics.json."""

MODELS = {
    ("ddpm", "ffhq256"): "ffhq256ddpm",
    ("ddpm", "imagenet256"): "imagenet256ddpm",
    ("ldm", "ffhq256"): "ffhq256ldm",
    ("ldm", "imagenet256"): "imagenet256ldm",
    ("stable_diffusion", "v1.5"): "stable-diffusion-v1.5",
    ("stable_diffusion", "v2.1"): "stable-diffusion-v2.1",
}
"""Name of the model by `use` and `model` of a recipe's prior."""

_NOISE = {"use": "gaussian", "sigma": 0.05}

TASKS: dict[str, dict[str, Any]] = {
    "down_sampling": {"use": "down_sampling", "scale_factor": 4, "noise": _NOISE},
    "inpainting_box": {
        "use": "inpainting", "mask": "box", "mask_len_range": [128, 129], "margin": 32, "noise": _NOISE,
    },
    "inpainting_random": {
        "use": "inpainting", "mask": "random", "mask_prob_range": [0.70, 0.71], "noise": _NOISE,
    },
    "gaussian_blur": {"use": "gaussian_blur", "kernel_size": 61, "intensity": 3.0, "noise": _NOISE},
    "motion_blur": {"use": "motion_blur", "kernel_size": 61, "intensity": 0.5, "noise": _NOISE},
    "phase_retrieval": {"use": "phase_retrieval", "oversample": 2.0, "noise": _NOISE},
    "nonlinear_blur": {"use": "nonlinear_blur", "weights": "published", "noise": _NOISE},
    "high_dynamic_range": {"use": "high_dynamic_range", "scale": 2.0, "noise": _NOISE},
}  # fmt: skip
"""What a recipe's operator says where it is the published problem, in the order of the paper's table."""

_FFHQ = {
    "down_sampling": (29.07, 0.818, 0.177, 51.4),
    "inpainting_box": (24.07, 0.814, 0.133, 43.1),
    "inpainting_random": (31.12, 0.844, 0.098, 32.2),
    "gaussian_blur": (29.19, 0.817, 0.165, 53.3),
    "motion_blur": (29.66, 0.847, 0.157, 39.5),
    "phase_retrieval": (30.63, 0.851, 0.139, 42.7),
    "nonlinear_blur": (28.29, 0.783, 0.155, 49.4),
    "high_dynamic_range": (27.12, 0.752, 0.162, 43.0),
}

_PSNR = {
    "imagenet256ddpm": (25.89, 21.43, 28.44, 26.15, 27.86, 25.78, 27.73, 26.30),
    "ffhq256ldm": (27.48, 23.99, 30.71, 27.93, 27.00, 29.16, 28.11, 25.94),
}

NUMBERS: dict[tuple[str, str], dict[str, float]] = {
    ("ffhq256ddpm", task): dict(zip(METRICS, values, strict=True)) for task, values in _FFHQ.items()
} | {
    (model, task): {"psnr": value}
    for model, values in _PSNR.items()
    for task, value in zip(TASKS, values, strict=True)
}
"""The published means by model, task and metric."""
