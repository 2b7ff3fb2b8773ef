"""What pydantic says about a value, in words for the person who wrote it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from daps_kit.errors import did_you_mean

__all__ = ["as_written", "either", "reword"]

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "is_instance_of": "another kind of value",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section of settings",
    "model_type": "a section of settings",
    "model_attributes_type": "a section of settings",
    "none_required": "null",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}


def as_written(value: Any) -> str:
    """Return a value as a recipe would write it, shortened."""
    if isinstance(value, dict):
        return "a section of settings"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = repr(value)
    if isinstance(value, str):
        text = f"'{value}'"
    return text if len(text) <= 60 else f"{text[:57]}..."


def either(options: Sequence[str]) -> str:
    """Return `a, b or c`; `nothing` where there are no options."""
    *head, last = options or ["nothing"]
    return f"{', '.join(head)} or {last}" if head else last


def _expectation(error: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Return what was expected, or a message that stands for itself, and the words that could have been meant."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind], "", []
    if kind in _BOUNDS:
        key, phrase = _BOUNDS[kind]
        return phrase.format(context[key]), "", []
    if kind in ("literal_error", "enum"):
        words = [word.strip() for word in context["expected"].replace(" or ", ", ").split(",")]
        return either(words), "", [word.strip("'") for word in words]
    if kind in ("too_short", "too_long"):
        bound = "at least" if kind == "too_short" else "at most"
        count = context.get("min_length" if kind == "too_short" else "max_length")
        return f"{bound} {count} item{'' if count == 1 else 's'}, not {context.get('actual_length')}", "", []
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}", "", []
    if kind == "missing":
        return "", "an item is missing", []
    if kind in ("value_error", "assertion_error"):
        return "", str(context["error"]), []
    return "", error["msg"], []


def reword(errors: Sequence[dict[str, Any]], value: Any) -> str:
    """Return one message for the errors of one value: several are the alternatives of a union, none of which fits."""
    expected: list[str] = []
    messages: list[str] = []
    options: list[str] = []
    for error in errors:
        phrase, message, words = _expectation(error)
        options += words
        if phrase and phrase not in expected:
            expected.append(phrase)
        if message and message not in messages:
            messages.append(message)
    text = f"expected {either(expected)}, got {as_written(value)}" if expected else ""
    hint = did_you_mean(value, options) if isinstance(value, str) else ""
    return "; ".join(part for part in (text, *messages) if part) + hint
