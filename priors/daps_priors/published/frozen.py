"""What every published network goes through when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from daps_kit.contracts import Prior
from daps_kit.errors import ComponentError, UserError
from daps_kit.settings import Shape
from daps_kit.weights.tensors import load_into

Network = TypeVar("Network", bound=nn.Module)


def frozen(
    make: Callable[[], Network],
    tensors: Mapping[str, Tensor],
    source: Path | str,
    *,
    last: str,
    channels_last: bool = True,
) -> Network:
    """Return a network with these weights, for inference alone.

    Args:
        make: makes it; no memory is taken for the weights that it starts with.
        tensors: its weights.
        source: where they come from, for error messages.
        last: name of the weight of its last layer, which starts at zero.
        channels_last: the memory layout.

    Raises:
        UserError: the weights do not fit, are not finite, or were never trained.
    """
    with torch.device("meta"):
        network = make()
    load_into(network, tensors, source)
    if not bool(tensors[last].any()):
        raise UserError(f"{source} was never trained: the weights of its last layer are all zero")
    network.requires_grad_(False).eval()
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def require_shape(name: str, prior: Prior, shape: Shape | None) -> None:
    """Refuse images of another shape than the prior's.

    Args:
        name: of the prior, in recipes.
        prior: it has a shape.
        shape: (C, H, W) of the images of the run; None where any will do.

    Raises:
        ComponentError: they differ.
    """
    if shape is not None and tuple(shape) != prior.shape:
        raise ComponentError(
            f"prior {name} is over images of shape {list(prior.shape or ())}, but those of the run have {list(shape)}"
        )
