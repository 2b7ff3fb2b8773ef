"""The items of a run: what is measured, and the measurement.

Where nothing is measured yet, y = A(x0) + noise is drawn with one random stream an item, named after the item, so
that it depends on no other. A measurement of the user's own is read from any of the formats of `daps_kit.reading`, with
or without a batch dimension, and must have the shape that the operator gives; entries that the operator hides may be
anything, also NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit.arrays import read_array, with_channels
from daps_kit.contracts import Operator, Prior, RandomStreams
from daps_kit.errors import UserError
from daps_kit.files import files_of, stem_of, unique_names
from daps_kit.images import fit, load_image
from daps_kit.memory import require_memory
from daps_kit.parameters import build_operator
from daps_kit.random import stream_seed
from daps_kit.reading import ARRAY_SUFFIXES, PICTURE_SUFFIXES, naming
from daps_kit.recipe import Recipe
from daps_kit.recipe.data import ImagesData, MeasurementData, PriorData, chosen
from daps_kit.settings import OperatorSettings, Shape

from .noise_check import NoiseCheck, check_noise
from .plausible import Doubt, doubts, require_possible

__all__ = ["Bench", "Measured", "Operators"]


AT_ONCE = 8
"""Images that are there at once, at least: the state, what the prior and the operator make of it, y, and the truth."""


@dataclass(frozen=True)
class Measured:
    """An item of a run.

    Attributes:
        name: what its files and its random streams are called.
        truth: the true image [C, H, W], where it is known; on the CPU, like y.
        y: the measurement, without a batch dimension.
        operator: the forward model that belongs to it.
        doubts: what speaks against a measurement of the user's own, or against the operator's mask.
    """

    name: str
    truth: Tensor | None
    y: Tensor
    operator: Operator
    doubts: tuple[Doubt, ...] = ()


class Items(ABC):
    """Where the items of a run come from.

    Attributes:
        names: of the items.
        notes: what a user may want to know of how they were found.
        warnings: what is likely wrong with how they were read.
        image_shape: of all images, where it is known.
    """

    names: list[str]
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    image_shape: Shape | None = None

    @abstractmethod
    def truth(self, index: int) -> Tensor | None:
        """Return an item's true image on the CPU, where it is known."""

    def measurement(self, index: int) -> _Item | None:
        """Return an item's measurement where the user has brought one."""
        return None


def _image_shape(data: PriorData | MeasurementData, prior: Prior) -> Shape:
    """Return the shape of the images of a run that does not read them from files."""
    shape = data.image_shape or prior.shape
    if shape is not None:
        require_memory(AT_ONCE * math.prod(shape), f"images of {' x '.join(map(str, shape))}")
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


class _Images(Items):
    def __init__(self, data: ImagesData, prior: Prior) -> None:
        self.files, self.white_level, self.notes = data.files, data.white_level, data.notes
        self.names = unique_names(map(stem_of, self.files))
        self.channels = prior.shape[0] if prior.shape else prior.channels
        size = (data.size, data.size) if isinstance(data.size, int) else data.size
        if size and prior.shape and size != prior.shape[1:]:
            given, known = (" x ".join(map(str, side)) for side in (size, prior.shape[1:]))
            raise UserError(
                f"data.size: {given} does not fit the prior, which knows images of {known}{_advice(prior)}"
            )
        self.size = size or (prior.shape[1:] if prior.shape else None)
        if self.size:
            numbers = AT_ONCE * (self.channels or 3) * math.prod(self.size)
            require_memory(numbers, f"images of {' x '.join(map(str, self.size))}")

    def truth(self, index: int) -> Tensor:
        image = load_image(self.files[index], self.channels, self.white_level)
        return fit(image, self.size) if self.size else image


class _Draws(Items):
    def __init__(self, data: PriorData, prior: Prior, seed: int, device: torch.device) -> None:
        self.names = [f"draw-{index:03d}" for index in range(data.offset, data.offset + data.count)]
        self.prior, self.seed, self.device = prior, seed, device
        self.state_shape = prior.state_shape(_image_shape(data, prior))

    @torch.no_grad()
    def truth(self, index: int) -> Tensor:
        streams = RandomStreams([stream_seed(self.seed, "prior", self.names[index])], self.device)
        return self.prior.decode(self.prior.sample(self.state_shape, streams))[0].cpu()


class _Given(Items):
    """The user's own measurements: a file, or a folder of them, of one or several items each."""

    def __init__(self, data: MeasurementData, prior: Prior, operators: Operators) -> None:
        self.image_shape = shape = _image_shape(data, prior)
        # The shape of a measurement is that of any of the operators, so a probe will do.
        probe = operators.of("probe", shape)
        with torch.no_grad():
            measured = tuple(probe.forward(torch.zeros(1, *shape, device=operators.device)).shape[1:])
        scale = {"key": data.key, "black": probe.black, "white_level": data.white_level, "axes": data.axes}
        notes: list[str] = []
        self.warnings = warnings = list[str]()
        what = "the measurement of this operator has"
        self.items = _read_items(data.path, measured, what, notes, probe.read, doubt=warnings.append, **scale)
        self.names = unique_names(item.name for item in self.items)
        self.truths: list[_Item | None] = [None] * len(self.items)
        if data.truth is not None:
            truths = _read_items(data.truth, shape, "the images of this run have", notes)
            self.truths = _pair(self.items, truths, data, notes)
        taken = chosen(data, range(len(self.items)))
        self.names = [self.names[index] for index in taken]
        self.items = [self.items[index] for index in taken]
        self.truths = [self.truths[index] for index in taken]
        self.notes = notes

    def truth(self, index: int) -> Tensor | None:
        item = self.truths[index]
        return None if item is None else item.values

    def measurement(self, index: int) -> _Item:
        return self.items[index]


class Operators:
    """The operator of each item: one for all images of a size, or one for each as the settings say."""

    kept = 64

    def __init__(self, settings: OperatorSettings, seed: int, device: torch.device) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self._built: dict[tuple[str | None, Shape], Operator] = {}

    def of(self, name: str, shape: Shape) -> Operator:
        """Return the operator of an item with images of a shape; it is built once."""
        owner = name if self.settings.per_image else None
        key = (owner, shape)
        if key not in self._built:
            if len(self._built) >= self.kept:
                self._built.pop(next(iter(self._built)))
            seed = stream_seed(self.seed, "operator", *([owner] if owner is not None else []))
            self._built[key] = build_operator(self.settings, shape=shape, seed=seed, device=self.device)
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
        self.operators = Operators(recipe.operator, recipe.seed, device)
        data = recipe.data
        self.source: Items
        if isinstance(data, ImagesData):
            self.source = _Images(data, prior)
        elif isinstance(data, PriorData):
            self.source = _Draws(data, prior, recipe.seed, device)
        else:
            self.source = _Given(data, prior, self.operators)
        self.names = self.source.names
        self.notes, self.warnings = list(self.source.notes), list(self.source.warnings)
        self.shapes: dict[int, Shape] = {}
        self._settled: tuple[int, Operator] | None = None

    def settle(self, index: int, values: Mapping[str, float]) -> None:
        """Take values of what is unknown of an item's operator, by which its samples are judged: of one at a time."""
        parameters = self.operator(index).parameters
        if parameters is not None:
            self._settled = index, parameters.row(0)(values)

    def settled(self, index: int) -> Operator:
        """Return the operator of an item, at the values that were taken."""
        at, operator = self._settled or (None, None)
        return operator if operator is not None and at == index else self.operator(index)

    def recall(self, index: int, truth: Tensor | None) -> bool:
        """Take the shape of an item from the true image of an earlier run; say whether that is what this run needs."""
        if truth is None and self.source.image_shape is None:
            return False
        self._take_shape(index, truth)
        return True

    def _take_shape(self, index: int, truth: Tensor | None) -> None:
        if truth is not None:
            self.shapes[index] = (truth.shape[0], truth.shape[1], truth.shape[2])
        elif self.source.image_shape is not None:
            self.shapes[index] = self.source.image_shape

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
        self._take_shape(index, truth)
        operator = self.operator(index)
        if again:
            return Measured(name, truth, again[0], operator)
        given = self.source.measurement(index)
        if given is not None:
            y, doubts = self._judged(given, truth, operator)
            return Measured(name, truth, y, operator, doubts)
        if truth is None:
            raise RuntimeError("an item needs an image or a measurement")
        streams = RandomStreams([stream_seed(self.seed, "measurement", name)], self.device)
        known = self.true_parameters(index)
        measuring = (
            operator if known is None or operator.parameters is None else operator.parameters.at(known)
        )
        y = measuring.measure(truth[None].to(self.device), streams)
        return Measured(name, truth, y[0].cpu(), operator, _mask_doubts(operator))

    def true_parameters(self, index: int) -> Tensor | None:
        """Return the values [1, P] that an item's simulated measurement has of what is unknown; None where it has none.

        They are those that the recipe states, and draws from the priors, from a stream named after the item.
        """
        operator = self.operator(index)
        if operator.parameters is None or isinstance(self.source, _Given):
            return None
        seed = stream_seed(self.seed, "parameters", self.names[index])
        return operator.parameters.truths(RandomStreams([seed]))

    def periods(self, index: int) -> Mapping[str, float]:
        """Return the periods of those unknown numbers of an item's operator that have one."""
        parameters = self.operator(index).parameters
        return {} if parameters is None else parameters.periods

    def named_truths(self, index: int) -> dict[str, float] | None:
        """Return these values by their names."""
        values, parameters = self.true_parameters(index), self.operator(index).parameters
        if values is None or parameters is None:
            return None
        return dict(zip(parameters.names, values[0].tolist(), strict=True))

    def _judged(
        self, given: _Item, truth: Tensor | None, operator: Operator
    ) -> tuple[Tensor, tuple[Doubt, ...]]:
        """Return a measurement of the user's own with zeros where nothing is measured, and what speaks against it.

        Raises:
            UserError: an entry that is measured is not finite, or no image in [-1, 1] has this measurement.
        """
        y = given.values[None].to(self.device)
        with naming(given.file):
            require_possible(operator, y[0])
        hidden = operator.project(torch.ones_like(y)) == 0
        wrong = int((~torch.isfinite(y) & ~hidden).sum())
        if wrong:
            raise UserError(
                f"{given.file}: {wrong} of {y.numel()} values are infinite or NaN; only entries that a mask "
                "hides may be"
            )
        y = operator.project(y.masked_fill(hidden, 0))
        known = None if truth is None else truth.to(self.device)
        with naming(given.file):
            found: tuple[Doubt, ...] = ()
            # Where parameters are unknown too much is open for a doubt, and what is no picture looks odd.
            if operator.parameters is None and not operator.orthonormal:
                found = tuple(doubts(operator, y[0], known, self.operators.settings.conventions()))
        return y[0].cpu(), (*_mask_doubts(operator), *found)

    @torch.no_grad()
    def picture(self, index: int, y: Tensor) -> Tensor:
        """Return a measurement as a picture, [1 or 3, h, w] in [-1, 1]."""
        return self.operator(index).to_image(y[None].to(self.device))[0].cpu()

    def multimodal(self, index: int) -> bool:
        """Return whether images quite unlike the true one may explain an item's measurement."""
        return self.operator(index).multimodal

    def check_noise(self, index: int, y: Tensor, x0: Tensor) -> NoiseCheck | None:
        """Return what the samples [R, C, H, W] of an item say of its noise; None where they cannot tell."""
        return check_noise(self.settled(index), x0.to(self.device), y[None].to(self.device))

    def residual(self, index: int, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function that gives the residuals [B] of images [B, C, H, W] for an item's measurement."""
        operator, measured = self.settled(index), y[None].to(self.device)

        @torch.no_grad()
        def residual(x: Tensor) -> Tensor:
            return operator.residual(x.to(self.device), measured.expand(len(x), *y.shape)).cpu()

        return residual


def _mask_doubts(operator: Operator) -> tuple[Doubt, ...]:
    if operator.observed is None or not bool(operator.observed.all()):
        return ()
    return (Doubt("mask", "the mask hides nothing; 0, black or transparent is what it hides"),)


# --- reading the user's own files --------------------------------------------------------------------------------


class _Files:
    """Files of arrays of one shape, of which the last that was read is in memory."""

    def __init__(
        self, shape: tuple[int, ...], what: str, own: Callable[[Path], Tensor | None], how: dict[str, Any]
    ) -> None:
        self.shape, self.what, self.own, self.how = shape, what, own, how
        self._last: tuple[Path, Tensor] | None = None

    def batch(self, path: Path) -> Tensor:
        """Return what a file holds, [N, ...].

        Raises:
            UserError: it cannot be read, or has another shape.
        """
        if self._last is None or self._last[0] != path:
            self._last = (path, self._read(path))
        return self._last[1]

    def _read(self, path: Path) -> Tensor:
        shape = self.shape
        if (own := self.own(path)) is not None:
            return own.cpu()
        channels = shape[0] if len(shape) == 3 and shape[0] in (1, 3) else None
        array = read_array(path, channels=channels, **self.how)
        if channels and tuple(array.shape) in (shape[1:], (1, *shape[1:])):  # grey, like a picture
            array = with_channels(array.reshape(1, *shape[1:]), channels)
        batch = array[None] if tuple(array.shape) == shape else array
        if tuple(batch.shape[1:]) != shape or not len(batch):
            raise UserError(
                f"{path}: the shape {list(array.shape)} does not fit; {self.what} {list(shape)}, with or without "
                f"a batch dimension before it{_likely(tuple(array.shape), shape)}"
            )
        return batch


@dataclass(frozen=True)
class _Item:
    """One of the arrays that a file holds."""

    name: str
    files: _Files
    file: Path
    place: int

    @property
    def values(self) -> Tensor:
        """The array, read from the file unless that was the last to be read."""
        return self.files.batch(self.file)[self.place]


def _read_items(
    path: Path,
    shape: tuple[int, ...],
    what: str,
    notes: list[str],
    own: Callable[[Path], Tensor | None] = lambda path: None,
    **how: Any,
) -> list[_Item]:
    """Return the arrays of the given shape that a file or folder holds, batches taken apart; all are read once.

    Args:
        path: the file or the folder.
        shape: of each array.
        what: has that shape, in words.
        notes: are added to.
        own: reads a file in a way of its own, [N, ...]; None where it does not.
        how: other files are read.
    """
    files, note = files_of(path, (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES))
    if note:
        notes.append(note)
    if not files:
        raise UserError(f"nothing in the folder {path} can be read")
    items: list[_Item] = []
    source = _Files(shape, what, own, how)
    for file in files:
        count = len(source.batch(file))
        stem = stem_of(file)
        names = [stem] if count == 1 else [f"{stem}-{i:03d}" for i in range(count)]
        items += [_Item(name, source, file, place) for place, name in enumerate(names)]
    return items


def _likely(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return which mistake makes this shape out of that one, in words; empty where none is known."""
    last = given[-3:]
    if len(wanted) == 3 and len(last) == 3 and (last[2], last[0], last[1]) == wanted:
        return "; the channels are last: data.axes: HWC"
    if len(wanted) == 3 and last[-2:] == wanted[:0:-1] and wanted[1] != wanted[2]:
        return "; height and width are the other way round"
    return ""


def _pair(
    measured: list[_Item], truths: list[_Item], data: MeasurementData, notes: list[str]
) -> list[_Item | None]:
    """Return the true image of each measurement: of two files in their order, else by name, None where there is none.

    Raises:
        UserError: nothing belongs together, or it is not clear what does.
    """
    for item in truths:
        low, high = float(item.values.min()), float(item.values.max())
        if not (low >= -1.5 and high <= 1.5):
            raise UserError(
                f"{item.file}: values from {low:g} to {high:g}; true images lie in [-1, 1] (pictures and whole numbers "
                "are scaled by themselves)"
            )
    if not (data.path.is_dir() or (data.truth and data.truth.is_dir())) or len(measured) == len(truths) == 1:
        if len(truths) != len(measured):
            raise UserError(f"data.truth: {len(truths)} images for {len(measured)} measurements")
        return list(truths)
    by_name: dict[str, _Item] = {}
    for item in truths:
        other = by_name.setdefault(item.name, item)
        if other is not item:
            raise UserError(f"data.truth: {other.file} and {item.file} are both called {item.name}")
    names = {item.name for item in measured}
    alone = [item.name for item in measured if item.name not in by_name]
    if len(alone) == len(measured):
        raise UserError(
            f"data.truth: no image has the name of a measurement; images and measurements of the same name belong "
            f"together, such as {measured[0].name} (there are {', '.join(list(by_name)[:3])}, ...)"
        )
    if alone:
        notes.append(f"no true image for {_listed(alone)}")
    if left := [name for name in by_name if name not in names]:
        notes.append(f"no measurement for the true image{'s' * (len(left) > 1)} {_listed(left)}")
    return [by_name.get(item.name) for item in measured]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
