"""From what a user wishes to the text of a recipe, and the files that it needs beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daps_kit.errors import UserError
from daps_kit.files import stem_of, unique_names
from daps_kit.images import encode_png
from daps_kit.jpeg import Planes, read_planes
from daps_kit.jpeg_noise import jpeg_noise_level
from daps_kit.noise_level import noise_level
from daps_kit.paths import readable_file, unwritable
from daps_kit.prior_check.choice import choose_priors
from daps_kit.recipe import plain, to_yaml
from daps_kit.registry import default_registry

from .mask import read_holes
from .picture import Picture, read

__all__ = ["Draft", "Wishes", "draft"]

Auto = Literal["auto"]

BLURS = (0.3, 5.0)
"""Blurs that `auto` takes into account, in pixels."""

MOTIONS = (1.0, 40.0)
"""Lengths of a motion that `auto` takes into account, in pixels."""

PSF_SIZE = 21
"""Pixels along a side of a whole kernel that `auto` looks for."""

LEAST = 2 / 255 / math.sqrt(12)
"""What rounding to 8 bits leaves of a number, in [-1, 1]; no picture is taken to have less noise."""

MOST_OF_SMALL = 0.01
"""The strongest noise that is believed of a picture to be enlarged: its finest details, in which noise is looked for,
are details of the picture."""


@dataclass(frozen=True)
class Wishes:
    """What is to be done to pictures. At most one of mask, blur, motion, psf, upscale; denoise or counts, or neither.

    Attributes:
        mask: a file, in which white or transparent is what is to be filled.
        blur: standard deviation of a Gaussian blur, in pixels; "auto": it is drawn with the picture.
        motion: length in pixels, and angle in degrees, of a motion; "auto": they are drawn with the picture.
        psf: a file with the picture of a blurred point; "auto": it is found with the picture.
        upscale: how many times more pixels along a side.
        denoise: standard deviation of the noise, in [-1, 1]; it is estimated where neither this nor counts is given;
            "auto": it is drawn with the picture.
        counts: expected photons at white.
        samples: of the posterior.
        budget: of network calls, as `daps` has it.
        prior: a name, or a section as a recipe has it; photographs where not given.
    """

    mask: Path | None = None
    blur: float | Auto | None = None
    motion: tuple[float, float] | Auto | None = None
    psf: Path | Auto | None = None
    upscale: float | None = None
    denoise: float | Auto | None = None
    counts: float | None = None
    samples: int = 4
    budget: str | int = "balanced"
    prior: str | None = None

    @cached_property
    def holes(self) -> NDArray[np.bool_] | None:
        """What is to be filled, [H, W]."""
        return None if self.mask is None else read_holes(self.mask)

    @property
    def noise_alone(self) -> bool:
        """Whether noise is all that is to be undone, and not that of photons."""
        others = (self.mask, self.blur, self.motion, self.psf, self.upscale, self.counts)
        return all(each is None for each in others)

    def kept(self, picture: Picture) -> NDArray[np.bool_] | None:
        """Return where a picture stays as it is: around what is filled, unless it is to be denoised as well.

        Raises:
            UserError: the mask has another size.
        """
        if self.holes is None:
            return None
        if self.holes.shape != picture.size:
            given, wanted = (f"{w} x {h}" for h, w in (self.holes.shape, picture.size))
            raise UserError(f"mask {self.mask} has {given} pixels, but {picture.path} has {wanted}")
        return ~self.holes if self.denoise is None and self.counts is None else None


@dataclass(frozen=True)
class Draft:
    """A recipe that is not written yet.

    Attributes:
        path: of the recipe.
        text: of the recipe.
        files: what it needs beside it.
        names: what each picture is called.
        pixels: how many each is to have.
        said: a line about each picture.
    """

    path: Path
    text: str
    files: Mapping[Path, bytes]
    names: Sequence[str]
    pixels: Sequence[int]
    said: Sequence[str]


def draft(files: Sequence[Path], wishes: Wishes, path: Path, output: Path) -> Draft:
    """Return the recipe that restores pictures: of one picture a plain recipe, of several one with a task for each.

    Args:
        files: of the pictures, at least one.
        wishes: what is to be done.
        path: of the recipe.
        output: the folder that holds the folder of each picture's run.

    Raises:
        UserError: a file cannot be read, does not fit or has a name that no recipe can hold, or it cannot be told how
            strong the noise is.
    """
    for each in (
        *files,
        *(file for file in (wishes.mask, wishes.psf) if isinstance(file, Path)),
        path,
        output,
    ):
        if problem := unwritable(each):
            raise UserError(problem)
    beside: dict[Path, bytes] = {}
    task, operator = _operator(wishes, path, beside)
    names = unique_names(map(stem_of, files))
    sections, pixels, said = [], [], []
    plugin: Path | None = None
    for file in files:
        picture = read(file)
        prior, channels, plugin = _prior(wishes.prior, len(picture.seen))
        copies = channels // len(picture.seen)
        saved = read_planes(file) if wishes.noise_alone and copies == 1 else None
        level = _kept_level(saved, wishes)
        if level is None:
            measured, (noise, words) = operator, _noise(picture, wishes, copies)
        else:
            measured = {"use": "jpeg", "file": str(file.absolute())}
            noise, words = {"use": "gaussian", "sigma": level}, _of_saved(level, wishes)
        height, width = (math.floor(side * (wishes.upscale or 1) + 1e-9) for side in picture.size)
        data = {"use": "measurement", "path": str(file.absolute()), "image_shape": [channels, height, width]}
        sections.append({"data": data, "prior": prior, "operator": measured | {"noise": noise}})
        pixels.append(height * width)
        size = " x ".join(map(str, reversed(picture.size)))
        enlarged = f", to become {width} x {height}" if wishes.upscale else ""
        said.append(f"{file}: {size}{enlarged}, {words}")
    content: dict[str, Any] = {"format": 1} | ({"plugins": [str(plugin)]} if plugin else {})
    if len(files) == 1:
        content |= sections[0]
    content |= {"sampler": {"use": "daps", "budget": wishes.budget}, "runs": wishes.samples}
    content["output"] = str(output.absolute() / names[0] if len(files) == 1 else output.absolute())
    if len(files) > 1:
        content["tasks"] = dict(zip(names, sections, strict=True))
    header = "".join(f"# {line}\n" for line in (task, f"Run it with `daps-kit run {path.name}`."))
    return Draft(path, header + to_yaml(content), beside, names, pixels, said)


def _operator(wishes: Wishes, path: Path, files: dict[Path, bytes]) -> tuple[str, dict[str, Any]]:
    """Return what is done, in words, and the operator's section; the files that it needs are put into `files`."""
    if wishes.holes is not None:
        beside = path.with_name(f"{path.stem}-mask.png")
        files[beside] = encode_png(Image.fromarray(~wishes.holes))
        return f"Fill what {wishes.mask} hides.", {"use": "inpainting", "mask": str(beside.absolute())}
    if wishes.blur == "auto":
        low, high = BLURS
        known = {"unknown": {"use": "log_uniform", "low": low, "high": high}}
        section = {"use": "gaussian_blur", "kernel_size": 2 * math.ceil(4 * high) + 1, "intensity": known}
        return "Undo a Gaussian blur that is not known.", section
    if wishes.blur is not None:
        size = 2 * math.ceil(4 * wishes.blur) + 1
        section = {"use": "gaussian_blur", "kernel_size": size, "intensity": wishes.blur}
        return f"Undo a Gaussian blur of {wishes.blur:g} pixels.", section
    if wishes.motion == "auto":
        low, high = MOTIONS
        known = {"unknown": {"use": "log_uniform", "low": low, "high": high}}
        section = {"use": "linear_motion_blur", "length": known, "angle": "unknown"}
        return "Undo a motion that is not known.", section
    if wishes.motion is not None:
        length, angle = wishes.motion
        section = {"use": "linear_motion_blur", "length": length, "angle": angle}
        return f"Undo a motion of {length:g} pixels at {angle:g} degrees.", section
    if wishes.psf == "auto":
        section = {"use": "motion_blur", "kernel": {"unknown": {"size": PSF_SIZE}}}
        return "Undo a blur of any kernel, which is not known.", section
    if wishes.psf is not None:
        try:
            readable_file(wishes.psf)
        except ValueError as error:
            raise UserError(str(error)) from None
        return f"Undo the blur of {wishes.psf}.", {"use": "motion_blur", "kernel": str(wishes.psf.absolute())}
    if wishes.upscale is not None:
        section = {"use": "down_sampling", "scale_factor": wishes.upscale}
        return f"Enlarge {wishes.upscale:g} times.", section
    return "Take the noise away.", {"use": "identity"}


def _noise(picture: Picture, wishes: Wishes, copies: int) -> tuple[dict[str, Any], str]:
    """Return the section of the noise, and how strong it is in words.

    Args:
        picture: what is measured.
        wishes: may say how strong it is.
        copies: how many channels of the recipe show each of the picture's. They have one noise together, where the
            recipe takes them for independent: its variance is as many times larger.
    """
    kept = wishes.kept(picture)
    if wishes.counts is not None:
        return {"use": "poisson", "peak": wishes.counts / copies}, f"{wishes.counts:g} photons at white"
    if wishes.denoise == "auto":
        if copies > 1:
            raise UserError(
                f"{picture.path}: a grey picture shows one noise in {copies} channels of this prior, which 'auto' does "
                "not know; take a prior of grey pictures, or say it, such as --denoise 0.05"
            )
        known = {"use": "log_uniform", "low": float(f"{LEAST:.3g}"), "high": 2.0}
        return {"use": "gaussian", "sigma": {"unknown": known}}, "noise not known"
    sigma, how = wishes.denoise, "as given"
    if sigma is None:
        found = noise_level(picture.seen, None if kept is None else ~kept)
        if found is None:
            raise UserError(
                f"{picture.path}: too few pixels tell how strong the noise is; say it, such as --denoise 0.05"
            )
        most = MOST_OF_SMALL if wishes.upscale else math.inf
        sigma, how = float(f"{min(max(found, LEAST), most):.3g}"), "estimated" if found <= most else "at most"
    section = {"use": "gaussian", "sigma": float(f"{sigma * math.sqrt(copies):.6g}")}
    if how == "estimated" and picture.coarse_colours:
        how += " by brightness; that of colours JPEG has smoothed, so that there seems to be less"
    return section, f"noise {sigma:g} ({sigma * 127.5:.2g} of 255), {how}"


def _kept_level(saved: Planes | None, wishes: Wishes) -> float | None:
    """Return how strong the noise was of a picture before JPEG saved it; None where it is not known.

    What is left of it is not white, so that samples would draw `auto` wrongly: it is estimated as well.
    """
    if saved is None:
        return None
    if isinstance(wishes.denoise, float | int):
        return wishes.denoise
    found = jpeg_noise_level(saved)
    return None if found is None else float(f"{max(found, LEAST):.3g}")


def _of_saved(level: float, wishes: Wishes) -> str:
    """Return in words how strong the noise of a picture was before JPEG saved it."""
    how = "as given" if isinstance(wishes.denoise, float | int) else "estimated by what JPEG kept"
    if wishes.denoise == "auto":
        how += ", as it cannot be drawn"
    return f"noise {level:g} ({level * 127.5:.2g} of 255) before it was saved, {how}"


def _prior(wish: str | None, channels: int) -> tuple[dict[str, Any], int, Path | None]:
    """Return the section of the prior, how many channels its pictures have, and the plugin file that it comes from.

    Args:
        wish: a name, or a section, of which the settings that were given are kept. Where there is none, the prior of
            photographs serves, for grey ones that of colour where there is no other.
        channels: of the picture.
    """
    registry = default_registry()
    if wish is None:
        if channels == 1 and any(c.name == "photos_grey" for c in registry.components("prior")):
            return {"use": "photos_grey"}, 1, None
        return {"use": "photos"}, 3, None
    settings = choose_priors([wish], registry)[0].settings
    given = {key: plain(getattr(settings, key), registry) for key in sorted(settings.model_fields_set)}
    file = registry.component_of(settings).file
    return {"use": registry.name_in_recipe(settings)} | given, channels, file
