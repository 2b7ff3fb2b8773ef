"""Settings become a deepinv physics or denoiser, and that an operator or a prior."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import deepinv.models
import deepinv.physics
import deepinv.physics.functional
import deepinv.physics.generator
import torch
from deepinv.physics import Physics, StackedPhysics
from safetensors.torch import load_file

from daps_kit.contracts import Operator, Prior
from daps_kit.errors import ComponentError
from daps_kit.shape import Shape

from .denoiser import TRAINED, DenoiserPrior
from .modules import find, make, parameters, seeded
from .physics import ImageKind, Images, image_kind, operator_of

if TYPE_CHECKING:
    from daps_deepinv import DeepinvDenoiser, DeepinvPhysics

__all__ = ["build_operator", "build_prior", "draws"]


MODULES = [deepinv.physics, deepinv.physics.generator, deepinv.physics.functional]
"""Where a physics' arguments are looked up."""


def draws(name: str) -> bool:
    """Whether a physics draws something when it is made."""
    return parameters(find(name, [deepinv.physics], Physics)).get("rng") == "named"


def build_operator(settings: DeepinvPhysics, shape: Shape, seed: int, device: torch.device) -> Operator:
    """Return the operator of the settings.

    Raises:
        ComponentError: something is unknown, wrong, or does not fit the shape.
    """
    cls = find(settings.physics, [deepinv.physics], Physics)
    kind: ImageKind = "together" if settings.image == "auto" else settings.image
    if settings.image == "auto" and "MRI" in cls.__name__ and shape[0] != 2:
        kind = "real"
    with seeded(seed):
        physics = _physics(settings, cls, Images(kind, shape), seed, device)
        if settings.image == "auto" and kind == "together":
            kind = image_kind(physics, shape)
        return operator_of(physics, shape, image=kind)


def _physics(
    settings: DeepinvPhysics, cls: type[Physics], images: Images, seed: int, device: torch.device
) -> Physics:
    channels, height, width = images.taken
    offered: dict[str, Any] = {
        "img_size": images.taken,
        "channels": channels,
        "img_width": width,
        "device": device,
        "rng": torch.Generator(device).manual_seed(seed),
    }
    if height != width:
        del offered["img_width"]
    arguments = dict(settings.arguments)
    drawn: dict[str, Any] = {}
    if settings.generator is not None:
        generator = make_generator(settings.generator, offered)
        drawn = generator.step(batch_size=1, seed=seed % 2**31)
    taken = parameters(cls)
    for_later = {key: value for key, value in drawn.items() if key not in taken}
    offered |= {key: value for key, value in drawn.items() if key in taken}
    physics: Physics = make(cls, arguments, offered, MODULES)
    if for_later:
        physics.update(**for_later)
    if settings.noise is not None:
        for member in physics.physics_list if isinstance(physics, StackedPhysics) else [physics]:
            noise = make(find(settings.noise.use, MODULES), settings.noise.call, {}, MODULES)
            member.set_noise_model(noise.to(device))
    return physics


def make_generator(section: dict[str, Any], offered: dict[str, Any]) -> Any:
    """Return the generator of a section `{use: name, ...}`.

    Raises:
        ComponentError: it is unknown, or wrong.
    """
    name = section.get("use")
    if not isinstance(name, str):
        raise ComponentError("generator must say {use: name, ...}, a class of deepinv.physics.generator")
    base = deepinv.physics.generator.PhysicsGenerator
    cls = find(name, [deepinv.physics.generator], base)
    return make(cls, _without_use(section), offered, MODULES)


def _without_use(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "use"}


def build_prior(settings: DeepinvDenoiser, shape: Shape | None, device: torch.device) -> Prior:
    """Return the prior of the settings.

    Raises:
        ComponentError: something is unknown or wrong, weights do not fit, or no noise levels are known.
    """
    thing = find(settings.denoiser, [deepinv.models])
    trained = settings.sigma_range or TRAINED.get(settings.denoiser)
    if trained is None:
        raise ComponentError(
            f"prior.sigma_range: needed, the noise levels that {settings.denoiser} was trained for, such as "
            f"[0.0, 0.2] on deepinv's scale of [0, 1]; known only for {', '.join(TRAINED)}"
        )
    low, high = trained
    if not 0 <= low < high:
        raise ComponentError(f"prior.sigma_range: must be 0 <= low < high, got {list(trained)}")
    offered: dict[str, Any] = {"device": device}
    if shape is not None:
        offered |= dict.fromkeys(
            ("in_channels", "out_channels", "in_chans", "img_channels", "in_nc"), shape[0]
        )
    if settings.weights is not None:
        offered["pretrained"] = None
    with seeded(0):
        denoiser = make(thing, settings.arguments, offered, [deepinv.models])
    if not isinstance(denoiser, torch.nn.Module) or isinstance(denoiser, deepinv.models.Reconstructor):
        raise ComponentError(f"prior.denoiser: {settings.denoiser} is not a denoiser")
    if settings.weights is not None:
        _load(denoiser, settings.weights)
    return DenoiserPrior(denoiser.to(device), trained)


def _load(denoiser: torch.nn.Module, path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, weights_only=True, map_location="cpu")
        denoiser.load_state_dict(weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ComponentError(
            f"{path} does not hold weights of {type(denoiser).__name__}: {reason}"
        ) from error
