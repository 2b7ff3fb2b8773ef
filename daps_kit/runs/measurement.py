"""The items of a run: what is measured, and the measurement.

Where nothing is measured yet, y = A(x0) + noise is drawn with one random stream an item, named after the item, so
that it depends on no other. A measurement of the user's own is read from

    .npy, .npz          arrays (never pickled objects)
    .pt, .pth           tensors only
    .safetensors        tensors
    images              scaled to [-1, 1]

with or without a batch dimension, and must have the shape that the operator gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from daps_kit.arrays import read_array
from daps_kit.contracts import Operator, Prior, RandomStreams
from daps_kit.errors import UserError
from daps_kit.files import natural_key, unique_names
from daps_kit.images import fit, load_image
from daps_kit.random import stream_seed
from daps_kit.recipe import Recipe
from daps_kit.recipe.data import ImagesData, MeasurementData, PriorData
from daps_kit.settings import OperatorSettings, Shape

__all__ = ["Bench", "Measured"]


@dataclass(frozen=True)
class Measured:
    """An item of a run.

    Attributes:
        name: what its files and its random streams are called.
        truth: the true image [C, H, W], where it is known; on the CPU, like y.
        y: the measurement, without a batch dimension.
        operator: the forward model that belongs to it.
    """

    name: str
    truth: Tensor | None
    y: Tensor
    operator: Operator


class Source(ABC):
    """Where the items of a run come from."""

    names: list[str]
    image_shape: Shape | None = None

    @abstractmethod
    def truth(self, index: int) -> Tensor | None:
        """Return an item's true image on the CPU, where it is known."""

    def measurement(self, index: int) -> Tensor | None:
        """Return an item's measurement where the user has brought one."""
        return None


def _image_shape(data: PriorData | MeasurementData, prior: Prior) -> Shape:
    """Return the shape of the images of a run that does not read them from files."""
    shape = data.image_shape or prior.shape
    if shape is None:
        raise UserError("data.image_shape: needed as [C, H, W], because this prior takes images of any size")
    if prior.shape and shape != prior.shape:
        raise UserError(
            f"data.image_shape: {list(shape)} does not fit the prior, which knows {list(prior.shape)}{_advice(prior)}"
        )
    if not prior.shape and prior.channels and shape[0] != prior.channels:
        raise UserError(
            f"data.image_shape: {list(shape)} does not fit the prior, whose images have {prior.channels} channel(s)"
        )
    return shape


def _advice(prior: Prior) -> str:
    return f": {prior.advice}" if prior.advice else ""


class _Images(Source):
    def __init__(self, data: ImagesData, prior: Prior) -> None:
        self.files = data.files
        self.names = unique_names(file.stem for file in self.files)
        self.channels = prior.shape[0] if prior.shape else prior.channels
        size = (data.size, data.size) if isinstance(data.size, int) else data.size
        if size and prior.shape and size != prior.shape[1:]:
            given, known = (" x ".join(map(str, side)) for side in (size, prior.shape[1:]))
            raise UserError(
                f"data.size: {given} does not fit the prior, which knows images of {known}{_advice(prior)}"
            )
        self.size = size or (prior.shape[1:] if prior.shape else None)

    def truth(self, index: int) -> Tensor:
        image = load_image(self.files[index], self.channels)
        return fit(image, self.size) if self.size else image


class _Draws(Source):
    def __init__(self, data: PriorData, prior: Prior, seed: int, device: torch.device) -> None:
        self.names = [f"draw-{index:03d}" for index in range(data.count)]
        self.prior, self.seed, self.device = prior, seed, device
        self.state_shape = prior.state_shape(_image_shape(data, prior))

    @torch.no_grad()
    def truth(self, index: int) -> Tensor:
        streams = RandomStreams([stream_seed(self.seed, "prior", self.names[index])], self.device)
        return self.prior.decode(self.prior.sample(self.state_shape, streams))[0].cpu()


class _Given(Source):
    """The user's own measurements: a file, or a folder of them, of one or several items each."""

    def __init__(self, data: MeasurementData, prior: Prior, operators: _Operators) -> None:
        self.image_shape = shape = _image_shape(data, prior)
        # The shape of a measurement is that of any of the operators, so a probe will do.
        probe = operators.of("probe", shape)
        with torch.no_grad():
            measured = tuple(probe.forward(torch.zeros(1, *shape, device=operators.device)).shape[1:])
        self.ys, stems = _read_items(data.path, data.key, measured, "the measurement of this operator")
        self.names = unique_names(stems)
        self.truths = None
        if data.truth is not None:
            self.truths, _ = _read_items(data.truth, None, shape, "the images of this run")
            if len(self.truths) != len(self.ys):
                raise UserError(f"data.truth: {len(self.truths)} images for {len(self.ys)} measurements")

    def truth(self, index: int) -> Tensor | None:
        return self.truths[index] if self.truths else None

    def measurement(self, index: int) -> Tensor:
        return self.ys[index]


class _Operators:
    """The operator of each item: one for all images of a size, or one for each as the settings say."""

    kept = 64

    def __init__(self, settings: OperatorSettings, seed: int, device: torch.device) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self._built: dict[tuple[str | None, Shape], Operator] = {}

    def of(self, name: str, shape: Shape) -> Operator:
        owner = name if self.settings.per_image else None
        key = (owner, shape)
        if key not in self._built:
            if len(self._built) >= self.kept:
                self._built.pop(next(iter(self._built)))
            seed = stream_seed(self.seed, "operator", *([owner] if owner is not None else []))
            self._built[key] = self.settings.build(shape=shape, seed=seed, device=self.device)
        return self._built[key]


class Bench:
    """The items of a recipe, and their operators and measurements, made when asked for.

    Args:
        recipe: whose data, operator and seed are used.
        prior: says size and channels of the images, and may be what they are drawn from.
        device: where operators live and noise is drawn.

    Raises:
        UserError: data, prior and operator do not fit, or a file cannot be read.
    """

    def __init__(self, recipe: Recipe, prior: Prior, device: torch.device) -> None:
        self.seed, self.device = recipe.seed, device
        self.operators = _Operators(recipe.operator, recipe.seed, device)
        data = recipe.data
        self.source: Source
        if isinstance(data, ImagesData):
            self.source = _Images(data, prior)
        elif isinstance(data, PriorData):
            self.source = _Draws(data, prior, recipe.seed, device)
        else:
            self.source = _Given(data, prior, self.operators)
        self.names = self.source.names
        self.shapes: dict[int, Shape] = {}

    def operator(self, index: int) -> Operator:
        """Return the operator of an item that was measured."""
        return self.operators.of(self.names[index], self.shapes[index])

    @torch.no_grad()
    def measure(self, index: int, stored: tuple[Tensor, Tensor | None] | None = None) -> Measured:
        """Read or draw an item's image, and read or draw its measurement.

        Args:
            index: of the item.
            stored: y and truth of an earlier run, which spare drawing from the prior again.
        """
        name = self.names[index]
        again = stored if isinstance(self.source, _Draws) else None
        truth = again[1] if again else self.source.truth(index)
        if truth is not None:
            self.shapes[index] = (truth.shape[0], truth.shape[1], truth.shape[2])
        elif self.source.image_shape is not None:
            self.shapes[index] = self.source.image_shape
        operator = self.operator(index)
        if again:
            return Measured(name, truth, again[0], operator)
        given = self.source.measurement(index)
        if given is not None:
            return Measured(name, truth, operator.project(given[None].to(self.device))[0].cpu(), operator)
        if truth is None:
            raise RuntimeError("an item needs an image or a measurement")
        streams = RandomStreams([stream_seed(self.seed, "measurement", name)], self.device)
        y = operator.measure(truth[None].to(self.device), streams)
        return Measured(name, truth, y[0].cpu(), operator)

    @torch.no_grad()
    def picture(self, index: int, y: Tensor) -> Tensor:
        """Return a measurement as a picture, [1 or 3, h, w] in [-1, 1]."""
        return self.operator(index).to_image(y[None].to(self.device))[0].cpu()

    def residual(self, index: int, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function that gives the residuals [B] of images [B, C, H, W] for an item's measurement."""
        operator, measured = self.operator(index), y[None].to(self.device)

        @torch.no_grad()
        def residual(x: Tensor) -> Tensor:
            return operator.residual(x.to(self.device), measured.expand(len(x), *y.shape)).cpu()

        return residual


# --- reading the user's own files --------------------------------------------------------------------------------


def _read_items(
    path: Path, key: str | None, shape: tuple[int, ...], what: str
) -> tuple[list[Tensor], list[str]]:
    """Return the arrays of the given shape that a file or folder holds, batches taken apart, and their names."""
    files = [path]
    if path.is_dir():
        visible = (file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        files = sorted(visible, key=lambda file: natural_key(file.name))
        if not files:
            raise UserError(f"nothing in the folder {path}")
    items: list[Tensor] = []
    names: list[str] = []
    for file in files:
        array = read_array(file, key, channels=shape[0] if len(shape) == 3 and shape[0] in (1, 3) else None)
        batch = array[None] if tuple(array.shape) == shape else array
        if tuple(batch.shape[1:]) != shape or not len(batch):
            raise UserError(
                f"{file}: the shape {list(array.shape)} does not fit; {what} has {list(shape)}, "
                "with or without a batch dimension before it"
            )
        if not bool(torch.isfinite(batch).all()):
            count = int((~torch.isfinite(batch)).sum())
            raise UserError(f"{file}: {count} of {batch.numel()} values are infinite or not a number")
        items += list(batch)
        names += [file.stem] if len(batch) == 1 else [f"{file.stem}-{i:03d}" for i in range(len(batch))]
    return items, names
