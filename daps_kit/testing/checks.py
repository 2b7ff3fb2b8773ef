"""Run the checks that fit a component: by name, all at once, or as tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daps_kit.errors import UserError
from daps_kit.settings import Kind, Shape

from . import kernels, noises, operators, priors, samplers
from .base import Case, Check, NotApplicable, Outcome, check_names, run_checks
from .kernels import KernelCase
from .noises import NoiseCase
from .operators import OperatorCase
from .priors import PriorCase
from .samplers import SamplerCase

if TYPE_CHECKING:
    import pytest

__all__ = [
    "CHECKS",
    "BoundCheck",
    "Outcome",
    "cases",
    "check",
    "check_kernel",
    "check_noise",
    "check_operator",
    "check_prior",
    "check_sampler",
    "parametrize",
]


CHECKS: dict[Kind, tuple[Check, ...]] = {
    "operator": operators.CHECKS,
    "noise": noises.CHECKS,
    "prior": priors.CHECKS,
    "kernel": kernels.CHECKS,
    "sampler": samplers.CHECKS,
}
"""The checks of each kind of component."""


def make_case(kind: Kind, what: Any, shape: Shape | None = None, *, seed: int = 0) -> Case:
    """Return the case that the checks of a kind take; `shape` matters to operators and priors."""
    if kind not in CHECKS:
        raise UserError(f"there are no checks for a {kind}; there are for {', '.join(CHECKS)}")
    if kind == "operator":
        return OperatorCase(what, shape, seed=seed)
    if kind == "prior":
        return PriorCase(what, shape)
    if kind == "noise":
        return NoiseCase(what)
    return KernelCase(what) if kind == "kernel" else SamplerCase(what)


def check(
    kind: Kind,
    what: Any,
    shape: Shape | None = None,
    *,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Run every check on a component.

    Args:
        kind: "operator", "noise", "prior", "kernel" or "sampler".
        what: a section of a recipe, settings, or the component itself.
        shape: (C, H, W) of the images to try it on; (3, 16, 16) where neither it nor the component says.
        seed: of what is random in an operator.
        expected_failures: names of checks that are known to fail, each with the reason.

    Returns:
        What came of each check.

    Raises:
        AssertionError: checks failed, or passed though they were expected to fail: one line for each.
        UserError: the section is wrong, or `expected_failures` names no check.
    """
    case = make_case(kind, what, shape, seed=seed)
    outcomes = run_checks(case, CHECKS[kind], expected_failures)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        lines = "\n".join(f"  {outcome}" for outcome in failed)
        raise AssertionError(f"{kind} {case.label}: {len(failed)} of {len(outcomes)} checks failed\n{lines}")
    return outcomes


def check_operator(
    what: Any,
    shape: Shape | None = None,
    *,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Run every check on a forward model (see `check`)."""
    return check("operator", what, shape, seed=seed, expected_failures=expected_failures)


def check_noise(what: Any, *, expected_failures: Mapping[str, str] | None = None) -> list[Outcome]:
    """Run every check on a noise model (see `check`)."""
    return check("noise", what, expected_failures=expected_failures)


def check_prior(
    what: Any, shape: Shape | None = None, *, expected_failures: Mapping[str, str] | None = None
) -> list[Outcome]:
    """Run every check on a prior (see `check`)."""
    return check("prior", what, shape, expected_failures=expected_failures)


def check_kernel(what: Any, *, expected_failures: Mapping[str, str] | None = None) -> list[Outcome]:
    """Run every check on a kernel (see `check`)."""
    return check("kernel", what, expected_failures=expected_failures)


def check_sampler(what: Any, *, expected_failures: Mapping[str, str] | None = None) -> list[Outcome]:
    """Run every check on a sampler (see `check`)."""
    return check("sampler", what, expected_failures=expected_failures)


class BoundCheck:
    """A check and the case it is for: what a parametrised test calls.

    Args:
        function: the check.
        case: a list that is empty until the first check of a component makes the case they all share.
        make: kind, component, shape and seed of the case.
    """

    def __init__(self, function: Check, case: list[Case], make: tuple[Kind, Any, Shape | None, int]) -> None:
        self.function, self._case, self._make = function, case, make

    def __call__(self) -> None:
        """Run the check; one that does not apply skips the test."""
        import pytest

        if not self._case:
            kind, what, shape, seed = self._make
            self._case.append(make_case(kind, what, shape, seed=seed))
        try:
            self.function(self._case[0])
        except NotApplicable as why:
            pytest.skip(str(why))

    def __repr__(self) -> str:
        return self.function.__name__


def cases(
    kind: Kind,
    what: Any,
    shape: Shape | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
    marks: Sequence[Any] = (),
) -> list[Any]:
    """Return one pytest parameter a check, to be joined with those of other components.

    Args:
        kind, what, shape, seed, expected_failures: as for `check`. A failure that is expected must happen.
        name: how the tests are called, `name-check`; the component's own name where not given.
        marks: pytest marks for all of them.
    """
    import pytest

    from .base import label

    expected = expected_failures or {}
    check_names(CHECKS[kind], expected)
    shared: list[Case] = []
    parameters = []
    for function in CHECKS[kind]:
        reason = expected.get(function.__name__)
        mark: list[Any] = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        bound = BoundCheck(function, shared, (kind, what, shape, seed))
        identity = f"{name or label(what)}-{function.__name__}"
        parameters.append(pytest.param(bound, id=identity, marks=[*marks, *mark]))
    return parameters


def parametrize(
    kind: Kind,
    what: Any,
    shape: Shape | None = None,
    *,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Return a decorator that runs a test once for every check, as its argument `check` (see `cases`)."""
    import pytest

    parameters = cases(kind, what, shape, seed=seed, expected_failures=expected_failures)
    return pytest.mark.parametrize("check", parameters)
