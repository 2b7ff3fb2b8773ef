r"""A deepinv physics as an operator.

deepinv's images u lie in [0, 1], daps-kit's x in [-1, 1]: u = (x + 1) / 2. With P the map from images to what the
physics takes (see `Images`) and A the physics, a measurement y_d = A P u + noise of deepinv becomes

    linear A, Gaussian or Laplace noise    y = 2 y_d - A P 1 = A P x + 2 noise       the noise level doubles
    otherwise                              y = y_d           = A P (x + 1) / 2 + noise

so that a linear physics is a linear operator, with y = 0 for x = 0, and Poisson counts keep their black. This is the
only place that knows of [0, 1] in operators.

A complex measurement becomes its real and imaginary parts. deepinv's complex Gaussian noise has E|n|^2 = sigma^2, so
each part has sigma / sqrt(2). The parts of a stacked measurement are flattened and joined; where they have different
noise levels each is scaled to that of the first, so that one number holds for all.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from deepinv.physics import LinearPhysics, Physics, StackedPhysics
from deepinv.utils import TensorList
from torch import Tensor, nn

from daps_kit.contracts import LinearOperator, Noise, Operator
from daps_kit.errors import ComponentError
from daps_kit.noise import GaussianNoise, LaplaceNoise, PoissonGaussianNoise, PoissonNoise
from daps_kit.shape import Shape

from . import LEVELS
from .modules import Copies

__all__ = [
    "AffinePhysics",
    "Images",
    "LinearPhysicsOperator",
    "PhysicsOperator",
    "image_kind",
    "operator_of",
    "try_on",
]

ImageKind = Literal["together", "apart", "real", "complex"]

OWN_ADJOINT = 1e-4
"""Relative error of the dot test up to which the adjoint of a physics is believed."""


@dataclass(frozen=True)
class Images:
    """The map P from images [B, C, H, W] to what a physics takes; linear, and P^T P = I.

    Attributes:
        kind: 'together': the images as they are. 'apart': each channel is an image of its own, [B C, 1, H, W].
            'real': each channel is the real part of a complex image, given in two channels, [B C, 2, H, W].
            'complex': as they are, as complex numbers.
        shape: (C, H, W).
    """

    kind: ImageKind
    shape: Shape

    @property
    def group(self) -> int:
        """How many images of the physics an image becomes."""
        return self.shape[0] if self.kind in ("apart", "real") else 1

    @property
    def taken(self) -> Shape:
        """Shape of an image as the physics takes it."""
        channels = {"apart": 1, "real": 2}.get(self.kind, self.shape[0])
        return channels, *self.shape[1:]

    def give(self, x: Tensor) -> Tensor:
        """Return P x."""
        if self.kind == "complex":
            return torch.complex(x, torch.zeros_like(x))
        if self.kind == "together":
            return x
        single = x.reshape(-1, 1, *x.shape[2:])
        return torch.cat((single, torch.zeros_like(single)), 1) if self.kind == "real" else single

    def take(self, v: Tensor) -> Tensor:
        """Return P^T v."""
        if v.is_complex():
            v = v.real
        return v[:, :1].reshape(-1, *self.shape) if self.group > 1 or self.kind == "real" else v


@dataclass(frozen=True)
class Part:
    """One tensor of a measurement.

    Attributes:
        shape: without the batch dimension; [group, ...] where an image becomes several of the physics.
        is_complex: whether it is complex.
        weight: what A P x and the noise are multiplied with, so that all parts have one noise level.
        unit: what y_d is multiplied with first, to be on the scale of A P x (the gain, where y_d is counts).
    """

    shape: tuple[int, ...]
    is_complex: bool
    weight: float = 1.0
    unit: float = 1.0


class Layout:
    """How a measurement of deepinv, a tensor or a list of them, is one real tensor.

    Args:
        example: a measurement, whose shapes are remembered.
        group: how many images of the physics an image becomes.
    """

    def __init__(self, example: Any, group: int) -> None:
        self.group, self.listed = group, isinstance(example, TensorList)
        tensors: Sequence[Tensor] = list(example) if self.listed else [example]
        self.parts = [Part(self._form(t), t.is_complex()) for t in tensors]

    def _form(self, t: Tensor) -> tuple[int, ...]:
        return tuple(t.shape[1:]) if self.group == 1 else (self.group, *t.shape[1:])

    def join(self, measured: Any, *, units: bool = False) -> Tensor:
        """Return a measurement as one real tensor [B, ...] of four dimensions at least, with the parts' weights.

        Args:
            measured: a tensor or a list of them.
            units: whether it is a measurement with noise, which may have other units than A P x.
        """
        tensors = list(measured) if self.listed else [measured]
        rows = []
        for tensor, part in zip(tensors, self.parts, strict=True):
            factor = part.weight * (part.unit if units else 1.0)
            real = torch.view_as_real(tensor) if part.is_complex else tensor
            rows.append(factor * real.reshape(-1, *part.shape, *([2] if part.is_complex else [])))
        if self.listed:
            return torch.cat([row.flatten(1) for row in rows], 1)[:, None, None]
        (only,) = rows
        return only.reshape(len(only), *(1,) * (4 - only.ndim), *only.shape[1:])

    def part(self, y: Tensor, *, units: bool = False) -> Any:
        """Return a joined tensor taken apart again: the inverse of `join` with `units`, else its transpose."""
        flat, found, start = y.flatten(1), [], 0
        for part in self.parts:
            size = math.prod(part.shape) * (2 if part.is_complex else 1)
            piece = flat[:, start : start + size]
            start += size
            piece = piece / (part.weight * part.unit) if units else piece * part.weight
            form = part.shape if self.group == 1 else part.shape[1:]
            piece = piece.reshape(-1, *form, *([2] if part.is_complex else []))
            found.append(torch.view_as_complex(piece.contiguous()) if part.is_complex else piece)
        return TensorList(found) if self.listed else found[0]


def noise_models(physics: Physics) -> list[Any]:
    """Return the noise model of each part of a physics' measurement."""
    if isinstance(physics, StackedPhysics):
        return [model for member in physics.physics_list for model in noise_models(member)]
    return [physics.noise_model]


def _number(value: Any, what: str) -> float:
    tensor = torch.as_tensor(value)
    if tensor.numel() != 1 or not 0 < float(tensor) < math.inf:
        shown = f"{float(tensor):g}" if tensor.numel() == 1 else f"{tensor.numel()} values"
        raise ComponentError(f"{what} must be one positive number, got {shown}")
    return float(tensor)


@dataclass(frozen=True)
class Scatter:
    """The noise of each real number of y_d, after the parts' weights.

    Attributes:
        kind: name of deepinv's noise model.
        level: sigma, b, or the gain.
        read: standard deviation of the read noise of PoissonGaussianNoise, in counts.
    """

    kind: str
    level: float
    read: float = 0.0

    @property
    def added(self) -> bool:
        """Whether it is added, whatever the light."""
        return self.kind in ("GaussianNoise", "LaplaceNoise")

    def model(self, scale: float = 1.0) -> Noise:
        """Return the noise model of scale * y_d."""
        if self.kind == "GaussianNoise":
            return GaussianNoise(scale * self.level)
        if self.kind == "LaplaceNoise":
            return LaplaceNoise(scale * self.level)
        if self.kind == "PoissonNoise":
            return PoissonNoise(1 / self.level, black=0.0)
        return PoissonGaussianNoise(1 / self.level, self.read, black=0.0)


def read_noise(physics: Physics, layout: Layout) -> Scatter:
    """Set the parts' weights by the noise models of a physics, and return the noise.

    Raises:
        ComponentError: the likelihood of a noise model is not known here.
    """
    models = noise_models(physics)
    names = list(dict.fromkeys(type(model).__name__ for model in models))
    kind = names[0]
    if len(names) > 1 or kind not in LEVELS:
        raise ComponentError(
            f"the physics {type(physics).__name__} has {' and '.join(names)}, which cannot be sampled: its noise must "
            f"be of one kind, {', '.join(LEVELS)}; say so, such as noise: {{use: GaussianNoise, sigma: 0.05}}"
        )
    if len(models) != len(layout.parts):
        raise ComponentError(f"{len(models)} noise models for a measurement of {len(layout.parts)} parts")
    if kind != "GaussianNoise" and any(part.is_complex for part in layout.parts):
        raise ComponentError(f"a complex measurement cannot have {kind}")
    name = LEVELS[kind][0]
    levels = [
        _number(getattr(model, name), f"{name} of {kind}") / (math.sqrt(2) if part.is_complex else 1)
        for model, part in zip(models, layout.parts, strict=True)
    ]
    units, reads = [1.0] * len(levels), [0.0]
    if kind == "PoissonNoise":
        units = [1.0 if model.normalize else gain for model, gain in zip(models, levels, strict=True)]
    if kind == "PoissonGaussianNoise":
        sigmas = [_number(model.sigma, f"sigma of {kind}") for model in models]
        reads = [sigma / gain for sigma, gain in zip(sigmas, levels, strict=True)]
    if max(reads) > min(reads) * (1 + 1e-6):
        raise ComponentError(f"the parts of a measurement must have {kind} of one sigma / gain, got {reads}")
    layout.parts = [
        Part(part.shape, part.is_complex, levels[0] / level, unit)
        for part, level, unit in zip(layout.parts, levels, units, strict=True)
    ]
    return Scatter(kind, levels[0], reads[0])


class _Shift(nn.Module):
    """Stands for a noise model: adds known numbers."""

    def forward(self, y: Tensor, **kwargs: Any) -> Tensor:
        shift = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=y.dtype)
        return y + shift.to(y.device)


def refuse_unknown(physics: Physics, image: Tensor) -> None:
    """Refuse what changes a measurement after the noise model, for its likelihood is then not the noise model's.

    Args:
        physics: the forward model.
        image: an image, as it takes them.

    Raises:
        ComponentError: a measurement is not A of the image and noise, or its noise is weighted by a mask.
    """
    for member in physics.physics_list if isinstance(physics, StackedPhysics) else [physics]:
        model, member.noise_model = member.noise_model, _Shift()
        try:
            clean = member.A(image)
            plain = torch.equal(member.forward(image), member.noise(clean))
        finally:
            member.noise_model = model
        name, mask = type(member).__name__, getattr(member, "mask", None)
        if not plain:
            raise ComponentError(
                f"{name} changes a measurement after its noise, so its likelihood is not known"
            )
        masked = type(member).noise is not Physics.noise and isinstance(mask, Tensor)
        if masked and not bool(((mask == 0) | (mask == 1)).all()):
            raise ComponentError(f"the mask of {name} must be of zeros and ones: its noise is masked too")


class PhysicsOperator(Operator):
    """What both kinds of operator share; made by `operator_of`.

    Args:
        physics: the forward model, whose noise model is the operator's.
        images: the map from images to what it takes.
        layout: how its measurement is one tensor, with the parts' weights.
        noise: the noise of y.
        count: how many images are measured at once; 1 unless the physics has parameters for each image of a batch.
    """

    def __init__(
        self, physics: Physics, images: Images, layout: Layout, noise: Noise, count: int = 1
    ) -> None:
        super().__init__(images.shape, noise)
        self.physics, self.images, self.layout, self.count = physics, images, layout, count
        self._copies = Copies(physics)
        ones = torch.ones(count, *images.shape, device=_device(physics))
        with torch.no_grad():
            self._white = self._measured(ones)
            if isinstance(physics, LinearPhysics):
                self._find_observed(ones)
        self._scale = max(float(self._white.abs().max()), 1e-12)

    def _measured(self, u: Tensor) -> Tensor:
        """Return A P u, joined."""
        return self.layout.join(self._copies.like(u).A(self.images.give(u)))

    def _find_observed(self, like: Tensor) -> None:
        """Leave out what no image changes: entries that a mask or the geometry leaves without a measurement."""
        generator = torch.Generator().manual_seed(11)
        probes = [torch.randn(like.shape, generator=generator).to(like) for _ in range(2)]
        seen = torch.stack([self._measured(probe) != 0 for probe in probes]).any(0)
        if not bool(seen.all()):
            self.observed = seen

    def from_physics(self, measured: Any) -> Tensor:
        """Return a measurement of deepinv, y_d, as this operator's y."""
        raise NotImplementedError

    def to_physics(self, y: Tensor) -> Any:
        """Return this operator's y as a measurement of deepinv, y_d."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Return the masks, filters and the like of the physics."""
        members = self.physics.physics_list if isinstance(self.physics, StackedPhysics) else []
        modules = [("", self.physics), *((f"{index}.", member) for index, member in enumerate(members))]
        found = {
            f"{prefix}{name}": t for prefix, module in modules for name, t in module.state_dict().items()
        }
        return {
            name: t.detach().clone()
            for name, t in found.items()
            if t.numel() > 1 and not name.endswith("initial_random_state")
        }

    def to_image(self, y: Tensor) -> Tensor:
        """Return a picture of y: y itself where it is an image, else A^T y where that is known, else a square of y."""
        if not self.layout.listed and y.ndim == 4 and y.shape[1] in (1, 3) and min(y.shape[2:]) > 1:
            return self._picture(y)
        return self._other_picture(y)

    def _picture(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def _other_picture(self, y: Tensor) -> Tensor:
        flat = y.flatten(1)
        side = math.ceil(flat.shape[1] ** 0.5)
        square = torch.nn.functional.pad(flat, (0, side**2 - flat.shape[1]))
        return self._picture(square.reshape(len(y), 1, side, side))


class LinearPhysicsOperator(PhysicsOperator, LinearOperator):
    """A linear physics with noise that is added: y = A P x + noise.

    The adjoint is the physics' own where it passes a dot test, else A is differentiated.
    """

    def __init__(
        self, physics: Physics, images: Images, layout: Layout, noise: Noise, count: int = 1
    ) -> None:
        super().__init__(physics, images, layout, noise, count)
        self._own_adjoint = True
        with torch.no_grad():
            self._own_adjoint = self._dot_test(torch.zeros(count, *images.shape, device=_device(physics)))
            back = self.adjoint(self._white)
        self._back_scale = max(float(back.abs().max()), 1e-12)

    def _dot_test(self, like: Tensor) -> bool:
        generator = torch.Generator().manual_seed(13)
        x = torch.randn(like.shape, generator=generator).to(like)
        y = self.forward(x)
        u = torch.randn(y.shape, generator=generator).to(y)
        try:
            back = self.adjoint(u)
        except Exception:  # noqa: BLE001 (whatever is wrong with it, A can be differentiated)
            return False
        if back.shape != x.shape:
            return False
        scale = float(y.norm() * u.norm() + x.norm() * back.norm())
        return abs(float((y * u).sum() - (x * back).sum())) <= OWN_ADJOINT * scale / y.numel() ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return A P x."""
        return self._measured(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return P^T A^T y."""
        if not self._own_adjoint:
            return Operator.forward_vjp(self, y.new_zeros(len(y), *self.shape))[1](y)
        return self.images.take(self._copies.like(y).A_adjoint(self.layout.part(y)))

    def from_physics(self, measured: Any) -> Tensor:
        """Return 2 y_d - A P 1."""
        return self.project(2 * self.layout.join(measured, units=True) - self._white)

    def to_physics(self, y: Tensor) -> Any:
        """Return (y + A P 1) / 2."""
        return self.layout.part((y + self._white.to(y)) / 2, units=True)

    def _picture(self, y: Tensor) -> Tensor:
        """Return y with the largest measurement of a white image as white."""
        return (y / self._scale).clamp(-1, 1)

    def _other_picture(self, y: Tensor) -> Tensor:
        """Return A^T y, with that of a white image's measurement as white."""
        picture = (self.adjoint(y) / self._back_scale).clamp(-1, 1)
        return picture if picture.shape[1] in (1, 3) else picture.mean(1, keepdim=True)


class AffinePhysics(PhysicsOperator):
    """Any other physics, and noise of photons: y = A P (x + 1) / 2 + noise."""

    def forward(self, x: Tensor) -> Tensor:
        """Return A P (x + 1) / 2."""
        return self._measured((x + 1) / 2)

    def from_physics(self, measured: Any) -> Tensor:
        """Return y_d."""
        return self.project(self.layout.join(measured, units=True))

    def to_physics(self, y: Tensor) -> Any:
        """Return y."""
        return self.layout.part(y, units=True)

    def _picture(self, y: Tensor) -> Tensor:
        """Return y with 0 as black and the largest measurement of a white image as white."""
        return (2 * y / self._scale - 1).clamp(-1, 1)


def _device(physics: Physics) -> torch.device:
    tensors = [*physics.buffers(), *physics.parameters()]
    return tensors[0].device if tensors else torch.device("cpu")


def operator_of(
    physics: Physics, shape: Shape, *, image: ImageKind = "together", count: int = 1
) -> PhysicsOperator:
    """Return a deepinv physics as an operator.

    Args:
        physics: the forward model, whose noise model is the operator's.
        shape: (C, H, W) of the images.
        image: how the physics takes an image, see `Images`.
        count: how many images are measured at once; 1 unless the physics has parameters for each image of a batch.

    Raises:
        ComponentError: the physics does not take such images, or the likelihood of its noise is not known.
    """
    images = Images(image, shape)
    grey = torch.full((count, *shape), 0.5, device=_device(physics))
    with torch.no_grad():
        layout = Layout(try_on(physics, images, grey), images.group)
        refuse_unknown(physics, images.give(grey))
    scatter = read_noise(physics, layout)
    if scatter.added and isinstance(physics, LinearPhysics):
        return LinearPhysicsOperator(physics, images, layout, scatter.model(2.0), count)
    return AffinePhysics(physics, images, layout, scatter.model(), count)


def image_kind(physics: Physics, shape: Shape) -> ImageKind:
    """Return 'complex' where a physics takes images of this shape only as complex numbers, else 'together'."""
    grey = torch.full((1, *shape), 0.5, device=_device(physics))
    kinds: tuple[ImageKind, ...] = ("together", "complex")
    for kind in kinds:
        with contextlib.suppress(ComponentError):
            try_on(physics, Images(kind, shape), grey)
            return kind
    return "together"


@torch.no_grad()
def try_on(physics: Physics, images: Images, u: Tensor) -> Any:
    """Return the measurement of images in [0, 1], [B, C, H, W].

    Raises:
        ComponentError: the physics does not take such images.
    """
    try:
        return physics.A(images.give(u))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ComponentError(
            f"the physics {type(physics).__name__} does not take images of shape {list(images.taken)}"
            f" (image: {images.kind}): {type(error).__name__}: {reason}"
        ) from error
