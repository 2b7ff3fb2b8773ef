"""Each check of the conformance kit has a mutant, a component with one fault, that it must catch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from daps_kit import testing
from daps_kit.settings import Kind
from daps_kit.testing.checks import make_case

COMMON = ["settings_described", "settings_import_is_light"]
"""Checks of any kind of component, whose mutants are in test_checks.py."""


def parametrize(mutants: dict[str, list[Any]]) -> pytest.MarkDecorator:
    """Return a decorator that runs a test for every check and each of its mutants, as `name` and `mutant`."""
    pairs = [
        pytest.param(name, mutant, id=f"{name}-{type(mutant).__name__}")
        for name, several in mutants.items()
        for mutant in several
    ]
    return pytest.mark.parametrize(("name", "mutant"), pairs)


def assert_caught(kind: Kind, name: str, mutant: Any) -> None:
    """Assert that the check called `name` fails for a mutant, and says how.

    A solver of the host that gives up on a faulty operator is a failure, too: `run_checks` reports it as one.
    """
    (check,) = [check for check in testing.CHECKS[kind] if check.__name__ == name]
    case = make_case(kind, mutant)
    with pytest.raises((AssertionError, ArithmeticError), match=r"\w+"):
        check(case)


def assert_complete(kind: Kind, mutants: dict[str, list[Any]]) -> None:
    """Assert that every check of a kind has a mutant."""
    assert [*mutants, *COMMON] == [check.__name__ for check in testing.CHECKS[kind]]


def assert_passes(kind: Kind, component: Any, skipped: Sequence[str] = ()) -> None:
    """Assert that a component without a fault passes every check that needs no settings, but for some it skips."""
    outcomes = testing.check(kind, component)
    assert [o.check for o in outcomes if o.status != "passed"] == [*skipped, *COMMON]
