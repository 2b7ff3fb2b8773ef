"""`daps-kit restore`: restore a photograph, or a folder of them, with a line of options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from daps_kit.errors import UserError
from daps_kit.files import files_of, unique_names
from daps_kit.reading import PICTURE_SUFFIXES
from daps_kit.recipe import load_recipe

from .options import plugin_files, quiet
from .terminal import say

FILE = click.Path(path_type=Path, dir_okay=False)


def _or_auto(ctx: click.Context, param: click.Parameter, text: str | None) -> float | str | None:
    """Return a positive number, or the word auto."""
    high = 1000 if param.name == "blur" else 10
    known = _Number(min=0, min_open=True, max=high)
    return text if text is None or text == "auto" else known.convert(text, param, ctx)


class _Number(click.FloatRange):
    """A number within bounds, which is finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


def _motion(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[float, float] | str | None:
    """Return pixels and degrees of L:ANGLE, or the word auto."""
    if text is None or text == "auto":
        return text
    length, _, angle = text.partition(":")
    turn = _Number(min=-360, max=360)
    return _Number(min=1, max=1000).convert(length, param, ctx), turn.convert(angle, param, ctx)


def _psf(ctx: click.Context, param: click.Parameter, text: str | None) -> Path | str | None:
    """Return a file that is there, or the word auto."""
    return text if text is None or text == "auto" else Path(FILE.convert(text, param, ctx))


def _budget(ctx: click.Context, param: click.Parameter, text: str) -> str | int:
    """Return a name that `daps` knows, or a number of network calls."""
    if text in ("fast", "balanced", "accurate"):
        return text
    if text.isdecimal() and int(text) > 1:
        return int(text)
    raise click.BadParameter(f"{text!r} is not fast, balanced, accurate or a number of calls from 2 up.")


@click.command("restore")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path))
@click.option("--mask", type=FILE, help="Fill what is white, or transparent, in this picture.")
@click.option(
    "--blur",
    callback=_or_auto,
    metavar="SIGMA",
    help="Undo a Gaussian blur: its standard deviation in pixels, or auto, where it is not known.",
)
@click.option(
    "--motion",
    callback=_motion,
    metavar="L:ANGLE",
    help="Undo a motion of L pixels at ANGLE degrees, such as 21:30, or auto, where it is not known.",
)
@click.option(
    "--psf",
    callback=_psf,
    metavar="FILE|auto",
    help="Undo a blur: a picture of what it makes of a point, or auto, where it is not known.",
)
@click.option(
    "--upscale", type=_Number(min=1, min_open=True, max=16), metavar="TIMES", help="Enlarge so many times."
)
@click.option(
    "--denoise",
    callback=_or_auto,
    metavar="SIGMA",
    help="How strong the noise is: its standard deviation, with black at -1 and white at 1; auto: drawn with the "
    "picture, but of JPEG files estimated; estimated if not given.",
)
@click.option(
    "--counts", type=_Number(min=0, min_open=True), metavar="N", help="The noise is of photons, N at white."
)
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="How many answers.")
@click.option(
    "--budget",
    callback=_budget,
    metavar="BUDGET",
    default="balanced",
    show_default=True,
    help="fast, balanced, accurate or network calls.",
)
@click.option("--prior", help="A prior, or its section as in a recipe; photos, or photos_grey, if not given.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("restored"),
    show_default=True,
    help="Folder of the results.",
)
@click.option("--recipe", type=FILE, help="Write the recipe to this file instead of running it.")
@quiet
@plugin_files
def command(photos: tuple[Path, ...], output: Path, recipe: Path | None, quiet: bool, **wished: Any) -> None:
    """Restore a PHOTO of any size, or several, or those of a folder: less noise, or what an option says.

    \b
    daps-kit restore photo.jpg                               less noise, whose strength is estimated
    daps-kit restore photo.jpg --mask scratches.png          fill what is white in the mask
    daps-kit restore photo.jpg --blur auto --denoise auto    undo a blur, neither it nor the noise known
    daps-kit restore photo.jpg --motion 21:30 --samples 8    undo a motion of 21 pixels, at 30 degrees

    Writes restored/photo.png, the mean of several answers, in the form of the photo: size, depth, colour profile and
    opacity; beside it the answers themselves, where they differ, before and after, and the recipe.
    """
    one_of = ("mask", "blur", "motion", "psf", "upscale")
    for names in (one_of, ("denoise", "counts")):
        given = [f"--{name}" for name in names if wished[name] is not None]
        if len(given) > 1:
            raise UserError(
                f"{' and '.join(given)}: allowed is one of {', '.join(f'--{name}' for name in names)}"
            )
    if recipe and recipe.suffix not in (".yaml", ".yml"):
        raise UserError(f"--recipe {recipe}: the name of a recipe ends in .yaml")

    def tell(text: str) -> None:
        if not quiet:
            say(text, err=True)

    files = [file for photo in photos for file in _files(photo, tell)]
    name = files[0].stem if len(files) == 1 else "photos"
    if len(photos) == 1 and photos[0].is_dir():
        name = photos[0].absolute().name
    (name,) = unique_names([name])
    from daps_kit.restore import results  # which imports torch
    from daps_kit.restore.picture import read
    from daps_kit.restore.recipe import Wishes, draft

    wishes = Wishes(**wished)
    drafted = draft(files, wishes, recipe or output / f"{name}.yaml", output)
    for line in drafted.said:
        tell(line)
    if recipe:
        with results.begun(drafted):
            say(recipe)
        return
    from daps_kit.runs.progress import RunDisplay
    from daps_kit.runs.runner import run

    progress = RunDisplay(quiet=quiet)
    with results.begun(drafted, output):
        for place, each in enumerate(load_recipe(drafted.path)):
            progress.later = sum(drafted.pixels[place + 1 :]) / drafted.pixels[place]
            result = run(each, progress=progress)
            picture = read(files[place])
            say(results.write(picture, result, wishes, output, drafted.names[place]))
            if found := results.found(picture, result):
                tell(found)
            if hint := results.advice(picture, result, wishes):
                tell(hint)


def _files(photo: Path, tell: Any) -> list[Path]:
    """Return the pictures that are meant.

    Raises:
        UserError: there is none.
    """
    try:
        found, note = files_of(photo, PICTURE_SUFFIXES)
    except OSError as error:
        raise UserError(f"cannot read {photo}: {error.strerror}") from None
    if note:
        tell(note)
    if not found:
        raise UserError(f"no picture in the folder {photo}" if photo.is_dir() else f"no such file: {photo}")
    return found
