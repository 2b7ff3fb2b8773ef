"""The conformance kit: does a component do what the contracts say?

Two front ends run the same checks. In a script or a notebook:

    from daps_kit.testing import check_operator
    check_operator({"use": "gaussian_blur"}, shape=(3, 32, 32))      # AssertionError lists what failed, with numbers

In a test suite, one test a check, with readable names and failures that are expected by name and reason:

    from daps_kit.testing import parametrize

    @parametrize("operator", {"use": "my_operator"}, shape=(3, 16, 16), expected_failures={"linearity": "it clips"})
    def test_conformance(check):
        check()

A component is given as a section of a recipe, as settings, or as the object itself (some checks need settings and are
skipped without). Checks draw from fixed seeds: a component that passes once passes always.
"""

from .checks import (
    CHECKS,
    BoundCheck,
    Outcome,
    cases,
    check,
    check_kernel,
    check_noise,
    check_operator,
    check_prior,
    check_sampler,
    parametrize,
)

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
