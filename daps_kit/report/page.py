"""The page itself, and the files beside it.

    report.html            of its own: template, style and script, and the pictures too where they are few and small
    report/index.js        the names of the images              report/numbers-N.js    their numbers, a part each
    report/thumbs-N.js     the list of images, a part each
    report/NNNN.js         the pictures of an image, or of some  report/NNNN-levels.js  the way through the noise levels
    report/environment.js  with what it was computed, and how long it took

Everything is script, for a page that is opened from a disk may not read files in any other way. What lies beside it is
loaded when it is looked at. Only environment.js depends on the machine and the clock.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

import daps_kit
from daps_kit.colours import colour_map
from daps_kit.failures import sample_name
from daps_kit.files import write_atomic
from daps_kit.papers import bibtex, distinct

from .citations import SOFTWARE, papers_of
from .compare import comparison
from .planes import image_data, level_data, thumb
from .reading import Result, as_written, result_in
from .summary import CHOICES, HEADINGS, UNKNOWN, inferred, number, unexplained, with_error

__all__ = ["INLINE", "render", "write_report", "write_side_by_side"]

Write = Callable[[Path, bytes], None]

INLINE = 160_000
"""Bytes of data up to which a page holds them itself."""

PART = 48
"""Images in a part of the list."""

NUMBERS = 500
"""Images whose numbers are in one file."""

PICTURES = 2_000_000
"""Bytes of pictures in one file, about, where not every image has a file of its own."""

SHOWN = 50
"""Rows of what was unknown that are in the page itself; metrics.json has all."""


def write_report(folder: Path, *, write: Write = write_atomic, inline: bool = True) -> Path:
    """Write the page of a finished run into its folder, and return where.

    Args:
        folder: of the run.
        write: writes a file.
        inline: whether the page holds its pictures itself, where they are few and small.

    Raises:
        UserError: the folder holds no finished run, or cannot be written.
    """
    result = result_in(folder)
    held = _write_data(result, write, inline=inline)
    page = folder / "report.html"
    with as_written(folder):
        content = _html([result], ["report/"], [held], result.name)
    write(page, content)
    return page


def write_side_by_side(
    folders: Sequence[Path], page: Path, *, write: Write = write_atomic, title: str = "", fresh: bool = False
) -> Path:
    """Write a page that shows several finished runs side by side, and return where; it reads files in their folders.

    Args:
        folders: of the runs; the first is what the others are compared with.
        page: the file.
        write: writes a file.
        title: of the page; how many runs there are if not given.
        fresh: whether what the page reads was just written by `write_report`, not `inline`.

    Raises:
        UserError: a folder holds no finished run, or something cannot be written.
    """
    results = [result_in(folder) for folder in folders]
    bases = []
    for result in results:
        if not fresh:
            _write_data(result, write, inline=False)
        bases.append(_base(result.folder / "report", page))
    titles = [title, results[0].name if len(results) == 1 else f"{len(results)} runs side by side"]
    with as_written(*folders):
        content = _html(results, bases, [None] * len(results), next(filter(None, titles)))
    write(page, content)
    return page


def _base(folder: Path, page: Path) -> str:
    """Return the address of a folder as a page has it: relative, or absolute where it is on another drive."""
    try:
        relative = os.path.relpath(folder.resolve(), page.resolve().parent)
    except ValueError:
        return folder.resolve().as_uri() + "/"
    return Path(relative).as_posix() + "/"


# --- data


def _write_data(result: Result, write: Write, *, inline: bool) -> list[bytes] | None:
    """Write the files of a run; return what they would hold where that is little enough for the page itself."""
    write(result.folder / "report" / "environment.js", _script("environment", result.environment))
    held: list[tuple[str, bytes]] | None = [] if inline else None
    with as_written(result.folder):
        for name, data in _files(result):
            if held is None:
                write(result.folder / "report" / name, data)
                continue
            held.append((name, data))
            if sum(len(data) for _, data in held) > INLINE:
                for earlier in held:
                    write(result.folder / "report" / earlier[0], earlier[1])
                held = None
    return None if held is None else [data for _, data in held]


def _files(result: Result) -> Iterator[tuple[str, bytes]]:
    names = list(result.images)
    yield "index.js", _script("index", _index(result))
    for part in range(0, len(names), NUMBERS):
        images = [result.images[name] for name in names[part : part + NUMBERS]]
        yield f"numbers-{part // NUMBERS}.js", _script("numbers", {"from": part, "images": images})
    for part in range(0, len(names), PART):
        thumbs = [thumb(result, name) for name in names[part : part + PART]]
        yield f"thumbs-{part // PART}.js", _script("thumbs", {"from": part, "pictures": thumbs})
    together = _together(result)
    for part in range(0, len(names), together):
        pictures, levels = b"", b""
        for index, name in enumerate(names[part : part + together], part):
            pictures += _script("image", {"index": index, **image_data(result, name)})
            found = level_data(result, name) if result.recipe.get("trajectory") else None
            levels += _script("levels", {"index": index, **found}) if found else b""
        yield f"{part // together:04d}.js", pictures
        if levels:
            yield f"{part // together:04d}-levels.js", levels


def _together(result: Result) -> int:
    """Return of how many images the pictures are in one file: of one, where each has files of its own anyway."""
    if result.store.pictures or not result.images:
        return 1
    size = len(_script("image", image_data(result, next(iter(result.images)))))
    return max(1, min(NUMBERS, PICTURES // size))


def _index(result: Result) -> dict[str, Any]:
    """Return the images, and what went wrong with samples."""
    return {
        "names": list(result.images),
        "lost": result.metrics["lost"],
        "doubted": result.metrics.get("doubted", []),
    }


def _script(kind: str, content: Any) -> bytes:
    return f"daps.{kind}({_json(content)})\n".encode()


def _json(content: Any) -> str:
    """Return data as script that may stand in a page: numbers to six digits, nothing that ends an element."""
    text = json.dumps(_rounded(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


# --- page


@cache
def _environment() -> Environment:
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in resources(__name__.rpartition(".")[0]).joinpath("page").iterdir()
    }
    made = Environment(
        loader=DictLoader(texts),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.globals["style"] = Markup(texts["page.css"])
    made.globals["script"] = Markup(texts["page.js"])
    return made


def render(template: str, **values: Any) -> bytes:
    """Return a page made from a template of the folder `page`; text is escaped."""
    return _environment().get_template(template).render(version=daps_kit.__version__, **values).encode()


def _html(
    results: Sequence[Result], bases: Sequence[str], inline: Sequence[list[bytes] | None], title: str
) -> bytes:
    papers = [papers_of(result.folder / "recipe.yaml") for result in results]
    known = distinct([paper for found in papers for paper in found or ()])
    data = {
        "headings": HEADINGS,
        "part": PART,
        "numbers": NUMBERS,
        "colours": colour_map().tobytes().hex(),
        "runs": [
            {
                "name": label,
                "base": base,
                "inline": held is not None,
                "images": len(result.images),
                "samples": result.runs,
                "together": _together(result),
                "widen": result.metrics.get("widen", 1.0),
                "levels": bool(result.recipe.get("trajectory")),
            }
            for result, label, base, held in zip(results, _labels(results), bases, inline, strict=True)
        ],
        "comparison": comparison(results) if len(results) > 1 else None,
    }
    page = (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            version=daps_kit.__version__,
            data=Markup(_json(data)),
            inline=[
                (number, [Markup(text.decode()) for text in held])
                for number, held in enumerate(inline)
                if held
            ],
            runs=[_run(result, label) for result, label in zip(results, _labels(results), strict=True)],
            comparison=data["comparison"],
            citations=bibtex([*known, SOFTWARE]),
            papers=[*known, SOFTWARE],
            uncited=any(found is None for found in papers),
        )
    )
    return page.encode()


def _labels(results: Sequence[Result]) -> list[str]:
    """Return a name for each run by which they are told apart: that of its recipe, or of its folder."""
    names = [result.name for result in results]
    return [
        name
        if names.count(name) == 1
        else f"{result.folder.resolve().parent.name}/{result.folder.resolve().name}"
        for name, result in zip(names, results, strict=True)
    ]


_CHOICE_WORDS = {
    "posterior_mean": ("Mean of the samples", "the answer of least error"),
    "sample_mean": ("A sample", "an answer that looks like an image; mean over the samples"),
    "reported": ("The sample that is shown", "chosen without the truth"),
    "oracle": ("Best sample by each metric", "chosen with the truth: an oracle"),
}


def _run(result: Result, label: str) -> dict[str, Any]:
    """Return what the template tells of a run."""
    metrics, recipe = result.metrics, result.recipe
    summary = metrics["summary"]
    keys = [key for key in HEADINGS if key in summary["reported"]]
    single = result.runs == 1
    rows = [
        (*words, [with_error(summary[choice].get(key), _form(key)) for key in keys])
        for choice, words in _CHOICE_WORDS.items()
        if summary[choice] and not (single and choice != "sample_mean")
    ]
    parts = {part: dict(recipe.get(part) or {}).get("use", "?") for part in ("operator", "prior", "sampler")}
    kernel = (recipe.get("sampler") or {}).get("kernel") or {}
    return {
        "label": label,
        "parts": parts,
        "kernel": kernel.get("use"),
        "noise": ((recipe.get("operator") or {}).get("noise") or {}).get("use"),
        "images": len(result.images),
        "samples": result.runs,
        "columns": [HEADINGS[key] for key in keys],
        "rows": rows,
        "figures": _figures(result),
        "widen": metrics.get("widen", 1.0),
        "unknown": list(islice(_unknown(result.images), SHOWN)),
        "unknown_columns": UNKNOWN,
        "told": unexplained(metrics),
        "lost": [_told(record) for record in metrics["lost"]],
        "doubted": [_told(record) for record in metrics.get("doubted", [])],
        "recipe": result.recipe_text,
        "provided": result.provided,
    }


def _unknown(images: Mapping[str, dict[str, Any]]) -> Iterator[tuple[list[str], str]]:
    """Yield the rows of what was unknown, each with its mean after each level: points of a line, 120 by 24 pixels."""
    for name, item in images.items():
        for row, found in zip(inferred(name, item), item.get("parameters", {}).values(), strict=True):
            trace = found["trace"]
            low, width = min(trace), max(max(trace) - min(trace), 1e-12)
            step = 116 / max(1, len(trace) - 1)
            points = [(2 + k * step, 22 - 20 * (value - low) / width) for k, value in enumerate(trace)]
            yield row, " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _told(record: dict[str, Any]) -> str:
    return f"{sample_name(record['image'], record['run'])}: {record['message']}"


def _form(key: str) -> str:
    return ".2f" if key.startswith(("psnr", "fid")) else ".3f"


def _figures(result: Result) -> list[tuple[str, str, str]]:
    """Return the numbers at the head of the page: what it is, the number, and what is expected."""
    summary = {choice: result.metrics["summary"].get(choice) or {} for choice in CHOICES}
    mean, one, spread = summary["posterior_mean"], summary["sample_mean"], summary["ensemble"]
    found: list[tuple[str, str, str]] = []

    def add(what: str, value: dict[str, Any] | None, form: str, expected: str = "", unit: str = "") -> None:
        if value:
            found.append((what, with_error(value, form) + unit, expected))

    if result.runs > 1:
        add("PSNR of the mean", mean.get("psnr"), ".2f", unit=" dB")
        add("PSNR of a sample", one.get("psnr"), ".2f", unit=" dB")
    else:
        add("PSNR", one.get("psnr"), ".2f", unit=" dB")
    add("residual of a sample", one.get("residual"), ".3f", "about 1 for the true image")
    if due := spread.get("coverage_due"):
        add("coverage", spread.get("coverage"), ".3f", f"{due['mean']:.3f} is due")
    add("spread / error", spread.get("spread_error"), ".3f", "1 for the right posterior")
    if calls := result.metrics.get("network_calls"):
        found.append(("network calls", f"{calls:.4g}", "for a sample"))
    return found
