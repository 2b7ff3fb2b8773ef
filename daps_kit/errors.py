"""Errors a person may read.

A `UserError` is shown as one line (a `RecipeError` as one line per problem) and ends the program with exit code 2.
Every other exception is a bug and is shown with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ComponentError", "Location", "Problem", "RecipeError", "UserError", "did_you_mean"]


class UserError(Exception):
    """Something the user can put right; its text is one line that says what is wrong and what is allowed."""


class ComponentError(UserError):
    """A component could not be found, loaded or built."""


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
        return ": ".join(str(part) for part in (self.location, self.path, self.message) if part)


class RecipeError(UserError):
    """Everything that is wrong with a recipe, all at once, one line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = list(dict.fromkeys(problems))
        files = [problem.location.file for problem in unique if problem.location]

        def order(problem: Problem) -> tuple[int, int, int]:
            place = problem.location
            return (files.index(place.file), place.line or 0, place.column or 0) if place else (-1, 0, 0)

        self.problems = tuple(sorted(unique, key=order))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the option nearest to `word`, or an empty string where none is near."""
    known = {option.lower(): option for option in options}
    word = str(word).lower()
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    close = close or [option for option in known if len(word) > 2 and option.startswith(word)]
    return f"; did you mean '{known[close[0]]}'?" if close else ""
