"""Pictures to train on, at several scales, and those held out; who is credited for them.

A picture says more than one frequency band: reduced, its coarse structure becomes fine detail, which at full size only
large patches show. So each is kept at several scales (Lanczos; halves by the mean of 2 x 2), each with its weight.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.reading import reading
from daps_kit.training_images import picture_files, split

from ..dataset import load_pixels

FREE = ("public domain", "cc0")
"""How licences begin that ask for no credit."""


@dataclass(frozen=True)
class Picture:
    """A picture at one scale.

    Attributes:
        pixels: uint8 [C, H, W].
        weight: of this scale.
    """

    pixels: Tensor
    weight: float


@dataclass(frozen=True)
class Pictures:
    """What a training needs to know of its pictures.

    Attributes:
        train: at every scale.
        validation: central squares of those held out, [N, C, side, side] in [-1, 1].
        trained: the same of about as many to train on.
        count: how many pictures are trained on.
        credits: a line for each picture whose licence asks for one.
    """

    train: list[Picture]
    validation: Tensor
    trained: Tensor
    count: int
    credits: list[str]

    @property
    def identity(self) -> str:
        """What tells these pictures from others."""
        crc = 0
        for picture in self.train:
            crc = zlib.crc32(picture.pixels.numpy().tobytes(), crc)
        return f"{self.count} pictures, crc {crc:08x}"


@dataclass(frozen=True)
class PictureSet:
    """Where the pictures are, and what becomes of them.

    Attributes:
        source: a folder, a glob or a .csv file.
        channels: 1 or 3.
        held_out: how many of a folder or glob are held out.
        side: of the central squares of those that are measured.
        scales: each with its weight.
        seed: of the choice of held-out pictures.
    """

    source: Path
    channels: int
    held_out: int
    side: int
    scales: tuple[tuple[float, float], ...]
    seed: int

    def load(self, least: int) -> Pictures:
        """Read them all.

        Args:
            least: smaller sides than this are of no use at reduced scales.

        Raises:
            UserError: there are none, one cannot be read or is too small, or the list is damaged.
        """
        train, held_out, credits = self._listed() if self.source.suffix == ".csv" else self._found()
        found: list[Picture] = []
        trained: list[Tensor] = []
        for place, file in enumerate(train):
            picture = self._read(file)
            if min(picture.size) < least:
                raise UserError(f"{file} is {_size(picture)} pixels: patches need {least} x {least}")
            found += self._scaled(picture, least)
            if place % max(1, len(train) // len(held_out)) == 0 and min(picture.size) >= self.side:
                trained.append(self._square(picture))
        validation: list[Tensor] = []
        for file in held_out:
            picture = self._read(file)
            if min(picture.size) < self.side:
                raise UserError(
                    f"{file} is {_size(picture)} pixels: validation_side needs {self.side} x {self.side}"
                )
            validation.append(self._square(picture))
        squares = torch.stack(validation)
        return Pictures(found, squares, torch.stack(trained) if trained else squares, len(train), credits)

    def _found(self) -> tuple[list[Path], list[Path], list[str]]:
        files = picture_files(self.source)
        train, held_out = split(len(files), self.held_out, self.seed)
        return [files[i] for i in train], [files[i] for i in held_out], []

    def _listed(self) -> tuple[list[Path], list[Path], list[str]]:
        with reading(self.source), self.source.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"file", "split"} <= set(rows[0]) or not all(row["file"] for row in rows):
            raise UserError(f"{self.source} must have the columns `file` and `split`")
        of = {kind: [r for r in rows if r["split"] == kind] for kind in ("train", "validation")}
        for kind, some in of.items():
            if not some:
                raise UserError(f"{self.source}: no picture has the split `{kind}`")
        train, held_out = ([self.source.parent / row["file"] for row in of[kind]] for kind in of)
        return train, held_out, _credits([*of["train"], *of["validation"]])

    def _read(self, file: Path) -> Image.Image:
        return Image.fromarray(np.squeeze(load_pixels(file))).convert("L" if self.channels == 1 else "RGB")

    def _scaled(self, picture: Image.Image, least: int) -> list[Picture]:
        found: list[Picture] = []
        for scale, weight in self.scales:
            width, height = round(picture.width * scale), round(picture.height * scale)
            if min(width, height) >= least:
                if scale == 0.5:
                    even = (picture.width // 2 * 2, picture.height // 2 * 2)
                    small = picture.crop((0, 0, *even)).reduce(2)
                elif scale == 1:
                    small = picture
                else:
                    small = picture.resize((width, height), Image.Resampling.LANCZOS)
                found.append(Picture(_tensor(small), weight))
        return found

    def _square(self, picture: Image.Image) -> Tensor:
        """Return the central square, [C, side, side] in [-1, 1]."""
        left, top = ((n - self.side) // 2 for n in picture.size)
        square = picture.crop((left, top, left + self.side, top + self.side))
        return _tensor(square).float().div_(127.5).sub_(1)


def _size(picture: Image.Image) -> str:
    return f"{picture.width} x {picture.height}"


def _tensor(picture: Image.Image) -> Tensor:
    """Return uint8 [C, H, W]."""
    array = np.array(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()


def _credits(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a line for each picture whose licence asks for credit; those in the public domain ask for none."""
    lines = []
    for row in rows:
        licence = (row.get("licence") or "").strip()
        if licence and not licence.lower().startswith(FREE):
            name = row.get("original") or row["file"]
            source = f", {row['source']}" if row.get("source") else ""
            lines.append(f"{name}: {row.get('credit') or 'unnamed'}, {licence}{source}")
    return lines
