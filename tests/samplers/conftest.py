"""What the tests of samplers share: recorded random numbers, and the priors and operators of the recorded runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Operator, Prior, RandomStreams
from daps_kit.noise import GaussianNoise
from daps_operators import DownSampling, GaussianBlur, HighDynamicRange, PhaseRetrieval
from daps_operators import mask as masks
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.exact.mixture import MixturePrior

CPU = torch.device("cpu")


class Recorded(RandomStreams):
    """Streams that hand out recorded numbers in the order in which they were recorded."""

    def __init__(self, normal: list[Tensor], uniform: list[Tensor] | None = None) -> None:
        super().__init__(range(len(normal[0])))
        self.left, self.uniform_left = list(normal), list(uniform or [])

    def normal(self, shape, dtype=torch.float32):
        noise = self.left.pop(0)
        assert noise.shape[1:] == torch.Size(shape)
        return noise.clone()

    def uniform(self, shape=(), dtype=torch.float32):
        assert tuple(shape) == ()
        return self.uniform_left.pop(0).clone()


class ToyLatent(GaussianPrior):
    """A Gaussian over latents [4, h, w] whose decoder mixes channels and doubles each pixel."""

    def __init__(self, arrays: dict[str, np.ndarray], mean: Tensor | float, std: float) -> None:
        super().__init__(mean, std)
        self.weight, self.bias = torch.from_numpy(arrays["W"]), torch.from_numpy(arrays["b"])

    def state_shape(self, image_shape):
        return (4, image_shape[1] // 2, image_shape[2] // 2)

    def decode(self, z: Tensor) -> Tensor:
        x = torch.einsum("oc,bchw->bohw", self.weight, z) + self.bias[:, None, None]
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Scaled(LinearOperator):
    """y = a x with an elementwise a: small enough to have every answer in closed form."""

    def __init__(self, a: Tensor | float, sigma: float, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, GaussianNoise(sigma))
        self.a = torch.as_tensor(a)

    def forward(self, x: Tensor) -> Tensor:
        return self.a.to(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.a.to(y) * y


def _prior(arrays: dict[str, np.ndarray], params: dict[str, Any]) -> Prior:
    facts = params["prior"]
    if facts["kind"] == "gaussian":
        return GaussianPrior(torch.from_numpy(arrays["mu"]), facts["s"])
    return MixturePrior(torch.tensor([-facts["m"], facts["m"]]), facts["s"], elementwise=True)


def _operator(arrays: dict[str, np.ndarray], params: dict[str, Any], size: int = 32) -> Operator:
    build = {"shape": (3, size, size), "seed": 0, "device": CPU}
    name = params["op"]
    if name == "down_sampling":
        return DownSampling(scale_factor=params["scale_factor"]).build(**build)
    if name == "phase_retrieval":
        return PhaseRetrieval(oversample=params["oversample"]).build(**build)
    if name == "gaussian_blur":
        return GaussianBlur(kernel_size=params["kernel_size"], intensity=params["intensity"]).build(**build)
    if name == "high_dynamic_range":
        return HighDynamicRange(scale=params["scale"]).build(**build)
    assert name == "inpainting"
    return masks.Inpainting((3, size, size), GaussianNoise(0.05), torch.from_numpy(arrays["mask"]))


@pytest.fixture(scope="session")
def recorded_prior() -> Callable[..., Prior]:
    """`recorded_prior(arrays, params)`: the prior of a recorded run."""
    return _prior


@pytest.fixture(scope="session")
def recorded_operator() -> Callable[..., Operator]:
    """`recorded_operator(arrays, params)`: the operator of a recorded run."""
    return _operator


@pytest.fixture(scope="session")
def recorded_streams() -> type[Recorded]:
    """The class of random streams that hand out recorded numbers."""
    return Recorded


@pytest.fixture(scope="session")
def toy_latent() -> type[ToyLatent]:
    """The class of the latent prior of the recorded runs."""
    return ToyLatent


@pytest.fixture(scope="session")
def scaled_operator() -> type[Scaled]:
    """The class of a diagonal linear operator."""
    return Scaled
