"""With what a run is computed, so that a difference between two machines can be told."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points, version
from typing import Any

import torch

from daps_kit.hooks import GROUP

__all__ = ["differences", "environment"]


def environment(device: torch.device) -> dict[str, Any]:
    """Return with what a run is computed: versions, plugins, machine and the settings of torch that matter."""
    libraries = ("torch", "numpy", "scipy", "pillow", "safetensors", "pydantic", "pluggy")
    plugins = {point.dist.name: point.dist.version for point in entry_points(group=GROUP) if point.dist}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CUDA builds of some releases warn of the question itself
        precision = torch.get_float32_matmul_precision()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "torch_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": precision,
        "libraries": {name: version(name) for name in libraries},
        "plugins": dict(sorted(plugins.items())),
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return how two environments differ in what stands under some keys, in words."""
    return [line for key in keys for line in _differences(key, there.get(key), here.get(key))]


def _differences(name: str, there: Any, here: Any) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted({*there, *here})
        return [line for key in keys for line in _differences(str(key), there.get(key), here.get(key))]
    return [] if there == here else [f"{name} {here or 'is not there'} in place of {there or 'none'}"]
