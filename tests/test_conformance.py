"""Every component that ships with daps-kit goes through the conformance kit, as a stranger's would.

A new one is tried with its default settings as soon as its package offers it. What needs a file, another size or an
expected failure has an entry in `CASES`.
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daps_kit.discovery import BUILTIN
from daps_kit.registry import default_registry
from daps_kit.testing import CHECKS, cases
from daps_priors.photos.settings import Photos


@dataclass(frozen=True)
class Entry:
    """A component with certain settings: the section, and what is known of it."""

    section: Any
    shape: tuple[int, int, int] | None = None
    expected: dict[str, str] = field(default_factory=dict)
    marks: tuple[Any, ...] = ()


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="daps-kit-conformance-"))


def _blur_network() -> dict[str, Any]:
    """Return a section with a small blur network of random weights; the published one has 461 MB."""
    import torch
    from safetensors.torch import save_file

    from daps_operators.nonlinear_blur.bkse import BlurNetwork, BlurNetworkConfig

    config = BlurNetworkConfig(width=4, front_blocks=1, back_blocks=1, levels=(4, 6), kernel_dim=3, tail=4)
    network = BlurNetwork(config)
    generator = torch.Generator().manual_seed(0)
    weights = {k: 0.3 * torch.randn(v.shape, generator=generator) for k, v in network.state_dict().items()}
    save_file(weights, _folder() / "blur.safetensors")
    return {
        "use": "nonlinear_blur",
        "weights": str(_folder() / "blur.safetensors"),
        "kernel": "random",
        "draw": "per_image",
    }


def _trained() -> dict[str, Any]:
    import daps_priors

    weights = Path(daps_priors.__file__).parent / "weights" / "portraits64.safetensors"
    return {"use": "trained", "path": str(weights)}


def _ddpm() -> dict[str, Any]:
    from tiny_models import save_ddpm

    path = save_ddpm(_folder() / "ddpm.pt")
    heads = {"num_head_channels": 32}
    return {"use": "ddpm", "model": "custom", "checkpoint": str(path), "architecture": heads}


def _ldm() -> dict[str, Any]:
    from tiny_models import save_ldm

    path = save_ldm(_folder() / "ldm.ckpt")
    heads = {"num_head_channels": 32}
    return {"use": "ldm", "model": "custom", "checkpoint": str(path), "architecture": heads}


def _pixel_pipeline() -> dict[str, Any]:
    from tiny_models import save_pixel_pipeline

    return {"use": "diffusers", "model": str(save_pixel_pipeline(_folder() / "pixels"))}


def _latent_pipeline() -> dict[str, Any]:
    from tiny_models import save_latent_pipeline

    return {"use": "diffusers", "model": str(save_latent_pipeline(_folder() / "latents"))}


def _stable_diffusion() -> dict[str, Any]:
    from tiny_models import save_stable_diffusion

    folder = save_stable_diffusion(_folder() / "stable")
    return {"use": "stable_diffusion", "model": str(folder), "prompt": "a face"}


_SD = tuple(
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason="the extra 'sd' is not installed")
    for name in ("diffusers", "transformers")
)

_PHOTOS = (pytest.mark.slow, pytest.mark.skipif(not Photos.file.exists(), reason="its weights are not there"))

_PARTICLES = "the samples of one measurement are particles, which depend on each other"
_TOO_WIDE = (
    "r_t = sigma_t is wider than p(x0 | x_t): the variance comes out 1.6 times too large, the mean 0.6 off"
)

CASES: dict[str, dict[str, Entry]] = {
    "operator/inpainting": {
        "box": Entry({"use": "inpainting"}),
        "random": Entry({"use": "inpainting", "mask": "random", "draw": "per_image"}),
    },
    "operator/down_sampling": {
        "cubic": Entry({"use": "down_sampling"}),
        "box": Entry({"use": "down_sampling", "kernel": "box", "scale_factor": 2}, (1, 9, 14)),
    },
    "operator/gaussian_blur": {
        "wide": Entry({"use": "gaussian_blur"}),
        "poisson": Entry(
            {"use": "gaussian_blur", "kernel_size": 5, "noise": {"use": "poisson", "peak": 30.0}}
        ),
    },
    "noise/gaussian": {
        "": Entry({"use": "gaussian"}),
        "rounded": Entry({"use": "gaussian", "quantised": 4}),
        "clipped": Entry({"use": "gaussian", "sigma": 0.2, "clipped": [-0.5, 0.6]}),
    },
    "noise/poisson": {
        "": Entry({"use": "poisson"}),
        "rounded": Entry({"use": "poisson", "quantised": 6}, marks=(pytest.mark.slow,)),
    },
    "noise/poisson_gaussian": {
        "": Entry({"use": "poisson_gaussian"}),
        "quiet": Entry({"use": "poisson_gaussian", "read": 0.4}, marks=(pytest.mark.slow,)),
        "rounded": Entry({"use": "poisson_gaussian", "quantised": 7}, marks=(pytest.mark.slow,)),
    },
    "noise/student_t": {
        "": Entry({"use": "student_t"}),
        "cauchy": Entry({"use": "student_t", "dof": 1.0}),
        "rounded": Entry({"use": "student_t", "quantised": 5}, marks=(pytest.mark.slow,)),
    },
    "noise/laplace": {
        "": Entry({"use": "laplace"}),
        "rounded": Entry({"use": "laplace", "quantised": 5}),
    },
    "operator/identity": {
        "": Entry({"use": "identity"}),
        "counts": Entry({"use": "identity", "noise": {"use": "poisson", "peak": 4.0}}),
        "outliers": Entry({"use": "identity", "noise": {"use": "student_t", "dof": 2.0}}),
        "rounded": Entry({"use": "identity", "noise": {"use": "laplace", "quantised": 4}}),
    },
    "operator/motion_blur": {
        "shared": Entry({"use": "motion_blur", "kernel_size": 9}, (3, 12, 15)),
        "per_image": Entry({"use": "motion_blur", "kernel_size": 15, "draw": "per_image"}),
    },
    "operator/linear_motion_blur": {
        "": Entry({"use": "linear_motion_blur", "length": 5.5, "angle": 20.0}, (3, 12, 15))
    },
    "operator/affine": {
        "linear": Entry({"use": "affine", "scale": 1.7}),
        "offset": Entry({"use": "affine", "scale": 0.6, "offset": 0.3}),
    },
    "operator/shift": {"": Entry({"use": "shift", "x": 1.3, "y": -0.4})},
    "operator/rotation": {"": Entry({"use": "rotation", "angle": 17.0}, (3, 12, 15))},
    "operator/chain": {
        "linear": Entry(
            {
                "use": "chain",
                "operators": [
                    {"use": "gaussian_blur", "kernel_size": 5},
                    {"use": "down_sampling", "scale_factor": 2, "phase_x": 0.3},
                ],
            }
        ),
        "offset": Entry(
            {"use": "chain", "operators": [{"use": "shift", "x": 0.5}, {"use": "affine", "offset": 0.2}]}
        ),
        "clipped": Entry(
            {
                "use": "chain",
                "operators": [{"use": "identity"}, {"use": "high_dynamic_range", "saturation": 0.7}],
            }
        ),
    },
    "operator/jpeg": {
        "coarse": Entry({"use": "jpeg"}, (3, 21, 18)),
        "grey": Entry({"use": "jpeg", "quality": 90}, (1, 9, 16)),
    },
    "operator/phase_retrieval": {
        "gaussian": Entry({"use": "phase_retrieval"}, (3, 16, 12)),
        "poisson": Entry({"use": "phase_retrieval", "noise": {"use": "poisson"}}, (1, 8, 8)),
    },
    "operator/nonlinear_blur": {
        "embedded": Entry({"use": "nonlinear_blur"}, (3, 18, 16)),
        "small": Entry(_blur_network),
    },
    "prior/mixture": {
        "images": Entry({"use": "mixture"}),
        "elements": Entry({"use": "mixture", "elementwise": True, "std": [0.2, 0.4]}),
    },
    "prior/trained": {"portraits": Entry(_trained, marks=(pytest.mark.slow,))},
    "prior/embedded": {"portraits": Entry({"use": "embedded"}, marks=(pytest.mark.slow,))},
    # In bfloat16 the matrix units of some processors round a batch of one otherwise than a batch of three.
    "prior/photos": {"": Entry({"use": "photos", "dtype": "float32"}, (3, 40, 52), marks=_PHOTOS)},
    "prior/tiled": {"": Entry({"use": "tiled", "of": {"use": "gaussian"}, "window": 8}, (3, 12, 15))},
    "prior/ddpm": {"": Entry(_ddpm, (3, 8, 8))},
    "prior/ldm": {"": Entry(_ldm, (3, 16, 16))},
    "prior/diffusers": {
        "pixels": Entry(_pixel_pipeline, marks=_SD),
        "latents": Entry(_latent_pipeline, marks=_SD),
    },
    "prior/stable_diffusion": {"": Entry(_stable_diffusion, marks=_SD)},
    "kernel/langevin": {
        "measured": Entry({"use": "langevin"}),
        "fixed": Entry({"use": "langevin", "lr": 1.0e-4}),
    },
    "kernel/underdamped": {
        "": Entry({"use": "underdamped"}),
        "langevin": Entry({"use": "underdamped", "momentum": 0.0}),
    },
    "sampler/daps": {
        "default": Entry({"use": "daps"}),
        "not-denoised": Entry({"use": "daps", "final_denoise": False}),
        "published": Entry(
            {
                "use": "daps",
                "annealing": {"levels": 20, "sigma_max": 10.0, "sigma_min": 0.2},
                "ode": {"steps": 5},
                "kernel": {"use": "underdamped", "steps": 60, "lr": 3.0e-3, "lr_min_ratio": 1.0},
            },
            expected={"posterior_mean": _TOO_WIDE, "posterior_covariance": _TOO_WIDE},
        ),
    },
    "sampler/smc": {
        "": Entry(
            {"use": "smc", "levels": 6},
            expected={"batch_size_independent": _PARTICLES, "failure_reported": _PARTICLES},
        ),
    },
}

BUILT_IN = [
    component
    for component in default_registry().components()
    if component.distribution == BUILTIN and component.kind in CHECKS
]


def _parameters() -> list[Any]:
    found: list[Any] = []
    for c in BUILT_IN:
        entries = CASES.get(f"{c.kind}/{c.name}", {"": Entry({"use": c.name})})
        for variant, entry in entries.items():
            found += cases(
                c.kind,
                entry.section,
                entry.shape,
                name="-".join(part for part in (c.kind, c.name, variant) if part),
                expected_failures=entry.expected,
                marks=entry.marks,
            )
    return found


@pytest.mark.parametrize("check", _parameters())
def test_conformance(check):
    check()


def test_no_entry_is_left_over():
    assert set(CASES) <= {f"{c.kind}/{c.name}" for c in BUILT_IN}
