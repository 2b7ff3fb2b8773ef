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

import pickle
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from daps_kit.contracts import Operator, Prior, RandomStreams
from daps_kit.data import ImagesData, MeasurementData, PriorData
from daps_kit.errors import UserError, did_you_mean
from daps_kit.files import natural_key, unique_names
from daps_kit.images import fit, load_image
from daps_kit.random import stream_seed
from daps_kit.recipe import Recipe
from daps_kit.settings import OperatorSettings, PriorSettings

__all__ = ["Bench", "Measured", "Shape", "build_prior", "read_array"]

Shape = tuple[int, int, int]


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
            f"data.image_shape: {list(shape)} does not fit the prior, which knows {list(prior.shape)}"
        )
    return shape


class _Images(Source):
    def __init__(self, data: ImagesData, prior: Prior) -> None:
        self.files = data.files
        self.names = unique_names(file.stem for file in self.files)
        self.channels = prior.shape[0] if prior.shape else None
        size = (data.size, data.size) if isinstance(data.size, int) else data.size
        if size and prior.shape and size != prior.shape[1:]:
            given, known = (" x ".join(map(str, side)) for side in (size, prior.shape[1:]))
            raise UserError(f"data.size: {given} does not fit the prior, which knows images of {known}")
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


def build_prior(
    settings: PriorSettings, data: ImagesData | PriorData | MeasurementData, device: torch.device
) -> Prior:
    """Return the prior; one that must be told the shape of the images is told that of the data.

    Raises:
        UserError: weights are missing or damaged, or nothing says the shape.
    """
    try:
        # A prior that knows its images decides size and channels, and the data follow.
        return settings.build(shape=None, device=device)
    except UserError:
        shape = _shape_of(data)
        if shape is None:
            raise
        return settings.build(shape=shape, device=device)


def _shape_of(data: ImagesData | PriorData | MeasurementData) -> Shape | None:
    if not isinstance(data, ImagesData):
        return data.image_shape
    first = load_image(data.files[0])
    size = data.size or (first.shape[1], first.shape[2])
    height, width = (size, size) if isinstance(size, int) else size
    return len(first), height, width


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


def read_array(path: Path, key: str | None = None, channels: int | None = None) -> Tensor:
    """Return the numbers of a file as a float32 tensor.

    Args:
        path: .npy, .npz, .pt, .pth, .safetensors, or an image, which is scaled to [-1, 1].
        key: which array of a file that holds several; without it the only one, or the one called `y`.
        channels: of an image; its own where not given.

    Raises:
        UserError: the file is damaged, holds something else than real numbers, or does not have the key.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".npy", ".npz"):
            with path.open("rb") as file:
                found = np.load(file, allow_pickle=False)
                content: Any = dict(found) if isinstance(found, np.lib.npyio.NpzFile) else found
        elif suffix in (".pt", ".pth"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about files that are refused anyway
                content = torch.load(path, weights_only=True, map_location="cpu")
        elif suffix == ".safetensors":
            content = load_file(path)
        else:
            return load_image(path, channels)
    except pickle.UnpicklingError as error:
        raise UserError(f"cannot read {path}: only tensors are read, it holds other objects") from error
    except (OSError, ValueError, EOFError, RuntimeError, SafetensorError, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read {path}: {str(error).splitlines()[0] if str(error) else 'it is damaged'}"
        ) from error
    if isinstance(content, Mapping):
        content = _choose(content, key, path)
    if not isinstance(content, Tensor | np.ndarray) or (
        isinstance(content, np.ndarray) and content.dtype.kind not in "biuf"
    ):
        raise UserError(
            f"{path}: expected an array of real numbers, got {getattr(content, 'dtype', type(content).__name__)}"
        )
    tensor = torch.as_tensor(np.ascontiguousarray(content) if isinstance(content, np.ndarray) else content)
    if tensor.is_complex():
        raise UserError(
            f"{path}: expected real numbers, got {tensor.dtype}; give magnitudes, or real and imaginary parts"
        )
    return tensor.detach().to(torch.float32)


def _choose(content: Mapping[str, Any], key: str | None, path: Path) -> Any:
    names = list(map(str, content))
    if key is None:
        if len(content) != 1 and "y" not in content:
            raise UserError(f"{path}: holds {', '.join(names) or 'nothing'}; say which as data.key")
        return content["y"] if "y" in content else next(iter(content.values()))
    if key not in content:
        raise UserError(f"{path}: no array '{key}', it holds {', '.join(names)}{did_you_mean(key, names)}")
    return content[key]
