"""Weights of blur networks in files: the published ones, and those that `daps-kit train` writes.

The latter hold network and encoder in half precision, and as metadata a JSON object: `format`, `kind` ("blur"),
`network` (sizes), `measured` (see `measure`), `training` (facts of the run) and `card` (title, licence, credits,
data, limits).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor, nn

from daps_kit import tensor_file
from daps_kit.weights.tensors import load_into

from .bkse import load_blur_network
from .coded_blur import CodedBlur
from .network import BlurEncoder, ShakeNetwork, ShakeNetworkConfig

__all__ = ["blank", "half", "load_blur", "load_shake_network", "save_weights"]


LARGEST = 65536
"""The largest size of a network that is read."""


class BlurDescription(tensor_file.Description):
    """What the file of a blur network says of it (see above)."""

    WHAT = "the weights of a blur network of daps-kit"
    KIND = "blur"

    network: ShakeNetworkConfig

    @field_validator("network")
    @classmethod
    def _sizes(cls, value: ShakeNetworkConfig) -> ShakeNetworkConfig:
        if not all(1 <= size <= LARGEST for size in asdict(value).values()):
            raise ValueError(f"sizes are from 1 to {LARGEST}")
        return value


def blank(config: ShakeNetworkConfig) -> nn.ModuleDict:
    """Return network and encoder under the names that files have."""
    return nn.ModuleDict({"network": ShakeNetwork(config), "encoder": BlurEncoder(config)})


def half(modules: nn.ModuleDict) -> dict[str, Tensor]:
    """Return the weights as they are stored: the few numbers of the curves in single precision, all others in half."""
    return {name: t if t.ndim == 0 else t.half() for name, t in modules.state_dict().items()}


def save_weights(path: Path, modules: nn.ModuleDict, description: dict[str, Any]) -> None:
    """Write network and encoder with what is known of them.

    Raises:
        UserError: the file cannot be written.
    """
    network = modules["network"]
    assert isinstance(network, ShakeNetwork)
    basic = {
        "format": BlurDescription.FORMAT,
        "kind": BlurDescription.KIND,
        "network": asdict(network.config),
    }
    tensor_file.write(path, half(modules), basic | description)


def load_shake_network(path: Path) -> tuple[ShakeNetwork, BlurEncoder, dict[str, Any]]:
    """Return a network of `daps-kit train` in single precision, frozen, its encoder, and the metadata.

    Raises:
        UserError: the file is missing, damaged, of another kind or a later format.
    """
    tensors, description = tensor_file.read(path)
    config = BlurDescription.of(description, path).network
    with torch.device("meta"):
        modules = blank(config)
    load_into(modules, tensors, path)
    modules.requires_grad_(False).eval()
    network, encoder = modules["network"], modules["encoder"]
    assert isinstance(network, ShakeNetwork)
    assert isinstance(encoder, BlurEncoder)
    return network, encoder, description


def load_blur(path: Path) -> CodedBlur:
    """Load a published network, or one that `daps-kit train` made: float32, frozen, on the CPU.

    Raises:
        UserError: the file cannot be read, or its parameters are not those of a blur network.
    """
    ours = path.suffix.lower() == ".safetensors" and tensor_file.KEY in tensor_file.read_plain(path)[1]
    return load_shake_network(path)[0] if ours else load_blur_network(path)
