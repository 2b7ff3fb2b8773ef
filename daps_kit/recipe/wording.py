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
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def either(options: Sequence[str]) -> str:
    """Return `a, b or c`; `nothing` where there are no options."""
    *head, last = options or ["nothing"]
    return f"{', '.join(head)} or {last}" if head else last


def _expectation(error: dict[str, Any]) -> tuple[list[str], str]:
    """Return what would have been right (several things for a choice), or a message that stands for itself."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return [_EXPECTED[kind]], ""
    if kind in _BOUNDS:
        key, phrase = _BOUNDS[kind]
        bound = context[key]
        return [phrase.format(f"{bound:g}" if isinstance(bound, float) else bound)], ""
    if kind in ("literal_error", "enum"):
        return context["expected"].replace(" or ", ", ").split(", "), ""
    if kind in ("too_short", "too_long"):
        bound = "at least" if kind == "too_short" else "at most"
        count = context["min_length" if kind == "too_short" else "max_length"]
        return [f"{bound} {count} item{'' if count == 1 else 's'}, not {context['actual_length']}"], ""
    if kind == "missing":
        return ["a longer list"], ""
    if kind == "string_pattern_mismatch":
        return [f"text of the form {context['pattern']}"], ""
    if kind == "is_instance_of":
        return ["a path" if context["class"] == "Path" else f"a {context['class']}"], ""
    return [], str(context["error"]) if kind in ("value_error", "assertion_error") else error["msg"]


def reword(errors: Sequence[dict[str, Any]], value: Any) -> str:
    """Return one message for the errors of one value: several are the alternatives of a union, none of which fits."""
    found = [_expectation(error) for error in errors]
    expected = list(dict.fromkeys(phrase for phrases, _ in found for phrase in phrases))
    messages = list(dict.fromkeys(message for _, message in found if message))
    text = [f"expected {either(expected)}, got {as_written(value)}"] if expected else []
    words = [phrase.strip("'") for phrase in expected if phrase.startswith("'")]
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    return "; ".join(text + messages) + hint
