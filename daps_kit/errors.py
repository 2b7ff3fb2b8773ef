"""Errors a person may read.

A `UserError` is shown as one line (a `RecipeError` as one line per problem) and ends the program with exit code 2.
Every other exception is a bug and is shown with its traceback.

What users write gets into these texts, so all of them pass through `printable`: nothing in a file's name or a recipe
can move the cursor of a terminal, or make one line look like two.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "SHOWN",
    "ComponentError",
    "InvalidPluginError",
    "Location",
    "LostError",
    "Problem",
    "RecipeError",
    "RefusalError",
    "UserError",
    "control_character",
    "did_you_mean",
    "printable",
    "text_of",
]

LONGEST = 1500
"""Letters of a line that are shown at most."""

QUOTED = 500
"""Letters of the text of an exception that are quoted at most."""

SHOWN = 100
"""Problems of a recipe that are shown at most."""


def printable(text: str) -> str:
    """Return a line with what is no letter as its number, such as \\x1b or \\u202e."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def text_of(error: BaseException) -> str:
    """Return the text of an exception in one printable line of some length; none where it raises another."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 (it may be a plugin's code)
        return ""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def _line(text: str) -> str:
    """Return what is printable of a line of an error, without the middle of a very long one."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 300]} ... {text[-250:]}"


def control_character(text: str) -> str:
    """Return the first character of a text that steers what reads it, ends a line or is half of another, or nothing."""
    return next((letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")), "")


class UserError(Exception):
    """Something the user can put right; its text is one line that says what is wrong and what is allowed.

    Args:
        lines: the line, and more where they list something.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(_line, lines)))


class ComponentError(UserError):
    """A component could not be found, loaded or built."""


class InvalidPluginError(Exception):
    """What a plugin offers does not follow the rules; the text says which."""


class RefusalError(UserError):
    """A sampler cannot do what it is asked for, with these settings or with any."""


class LostError(UserError):
    """Every sample of a run was lost."""


@dataclass(frozen=True)
class Location:
    """A place in a recipe, or an override on the command line. Lines and columns count from 1."""

    file: Path | str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: where it is, the dotted path of the setting, and what is wrong."""

    message: str
    path: str = ""
    location: Location | None = None

    def __str__(self) -> str:
        return _line(": ".join(str(part) for part in (self.location, self.path, self.message) if part))


class RecipeError(UserError):
    """Everything that is wrong with a recipe, all at once, one line per problem, as far as anyone reads on."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = list(dict.fromkeys(problems))
        files = [problem.location.file for problem in unique if problem.location]

        def order(problem: Problem) -> tuple[int, int, int]:
            place = problem.location
            return (files.index(place.file), place.line or 0, place.column or 0) if place else (-1, 0, 0)

        self.problems = tuple(sorted(unique, key=order))
        more = len(self.problems) - SHOWN
        super().__init__(*map(str, self.problems[:SHOWN]), *([f"and {more} more"] if more > 0 else []))


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the option nearest to `word`, or an empty string where none is near."""
    known = {option.lower(): option for option in options}
    word = str(word).lower()
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    close = close or [option for option in known if len(word) > 2 and option.startswith(word)]
    return f"; did you mean '{known[close[0]]}'?" if close else ""
