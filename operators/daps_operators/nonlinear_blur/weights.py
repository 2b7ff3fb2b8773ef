"""Weights of blur networks in files: the published ones, and those that `daps-kit train` writes.

The latter hold network and encoder in half precision, and as metadata a JSON object: `format`, `kind` ("blur"),
`network` (sizes), `measured` (see `blur_measure`), `training` (facts of the run) and `card` (title, licence, credits,
data, limits).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.weights.tensors import load_into

from .bkse import load_blur_network
from .coded_blur import CodedBlur
from .network import BlurEncoder, ShakeNetwork, ShakeNetworkConfig

__all__ = ["build", "half", "load_blur", "load_shake_network", "read", "save_weights", "write"]

KEY = "daps-kit"
KIND = "blur"
FORMAT = 1


def write(path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write tensors with a description.

    Raises:
        UserError: the disk refuses; what was at `path` before is untouched.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(contiguous, metadata={KEY: json.dumps(description)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a .safetensors file, and its description where `write` made it, else nothing.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        description: dict[str, Any] = json.loads(metadata.get(KEY, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot read the weights {path}: {reason}") from error
    return tensors, description


def build(config: ShakeNetworkConfig) -> nn.ModuleDict:
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
    basic = {"format": FORMAT, "kind": KIND, "network": asdict(network.config)}
    write(path, half(modules), basic | description)


def load_shake_network(path: Path) -> tuple[ShakeNetwork, BlurEncoder, dict[str, Any]]:
    """Return a network of `daps-kit train` in single precision, frozen, its encoder, and the metadata.

    Raises:
        UserError: the file is missing, damaged, of another kind or a later format.
    """
    tensors, description = read(path)
    if description.get("kind") != KIND:
        found = description.get("kind", "something else")
        raise UserError(f"{path} holds the weights of a {found}, not of a blur network of daps-kit")
    if description.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {description.get('format')}; this version of daps-kit reads {FORMAT}"
        )
    with torch.device("meta"):
        modules = build(ShakeNetworkConfig(**description["network"]))
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
    ours = path.suffix.lower() == ".safetensors" and "kind" in read(path)[1]
    return load_shake_network(path)[0] if ours else load_blur_network(path)
