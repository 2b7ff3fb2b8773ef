"""Networks that do not fit one device: spread over several, or kept in main memory or on the disk, by accelerate.

A strategy of accelerate or a map from modules to devices goes to diffusers as its `device_map`. Its hooks bring what a
module is given to the module's device, and weights that are kept elsewhere there for as long as it computes; autograd
goes through them. Such a network is not moved any more.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from daps_kit.errors import ComponentError, did_you_mean
from daps_kit.fingerprint import cache_root

__all__ = ["OFFLOAD", "DiskFolder", "Spread", "handed", "quiet", "spelt_out"]

OFFLOAD = "offload"
"""Weights in main memory, each module's on the device of the run while it computes."""

Device = str | int


@dataclass(frozen=True)
class Spread:
    """How the networks of a pipeline are spread.

    Attributes:
        device_map: `offload`, a strategy of accelerate, or a device for each PART or PART.MODULE; None for one device.
        max_memory: how much may be used of each device, by its number or `cpu`; all that is free where it is not named.
    """

    device_map: str | Mapping[str, Device] | None = None
    max_memory: Mapping[str, Device] = field(default_factory=dict)

    def of(self, part: str) -> str | dict[str, Device] | None:
        """Return what is said of a part, the devices by its modules; `""` is all of it."""
        if self.device_map is None or isinstance(self.device_map, str):
            return self.device_map
        named = {key.partition("."): device for key, device in self.device_map.items()}
        return {module: device for (name, _, module), device in named.items() if name == part} or None

    @property
    def memory(self) -> dict[Device, Device] | None:
        """The maximum as accelerate takes it."""
        return {int(key) if key.isdecimal() else key: size for key, size in self.max_memory.items()} or None


def spelt_out(network: torch.nn.Module, part: str, devices: Mapping[str, Device]) -> dict[str, Device]:
    """Return a map with a device for each module of a network that no other entry holds or is held by.

    Args:
        network: the part; its weights are not looked at.
        part: its name.
        devices: by modules, each for all below it but for what is named itself; `""` is the network.

    Raises:
        UserError: there is no such module, or one has no device; the text says which.
    """
    modules = dict(network.named_modules())
    for name in devices:
        if name not in modules:
            hint = did_you_mean(name, modules) or f"; it has {', '.join(dict(network.named_children()))}"
            raise ComponentError(f"prior device_map: the {part} has no module {name}{hint}")
    found: dict[str, Device] = {}

    def visit(name: str, device: Device | None) -> None:
        device = devices.get(name, device)
        start = f"{name}." if name else ""
        within = [other for other in devices if other.startswith(start) and other != name]
        if device is not None and not within:
            found[name] = device
            return
        for weight, _ in modules[name].named_parameters(recurse=False):
            if device is None:
                raise ComponentError(
                    f"prior device_map: no device for {part}.{start}{weight}; {part} is that of all not named"
                )
            found[f"{start}{weight}"] = device
        for child, _ in modules[name].named_children():
            visit(f"{start}{child}", device)

    visit("", None)
    return found


def handed(x: Tensor, network: Any) -> Tensor:
    """Return a tensor in the type of a network, on the device where its first weights are.

    Where they are kept elsewhere, hooks bring it to the right one.
    """
    device = next(
        (weight.device for weight in network.parameters() if weight.device.type != "meta"), x.device
    )
    return x.to(device=device, dtype=network.dtype)


class DiskFolder:
    """A new folder in the cache for weights, which goes with this object."""

    def __init__(self) -> None:
        place = cache_root() / "offload"
        place.mkdir(parents=True, exist_ok=True)
        self.path = tempfile.mkdtemp(dir=place)
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what accelerate logs of weights that are where they were asked to be."""
    log = logging.getLogger("accelerate")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
