"""The two front ends of the conformance kit, and what they say."""

from __future__ import annotations

import pytest

from daps_kit import testing
from daps_kit.errors import UserError
from tests.host.testing.halved import LIGHT, Halved, HalvedSettings


def test_a_right_component_passes_and_says_what_was_done():
    outcomes = testing.check_operator(Halved((3, 8, 8)))
    assert [o.check for o in outcomes] == [check.__name__ for check in testing.CHECKS["operator"]]
    assert {o.status for o in outcomes} == {"passed", "skipped"}


def test_every_failed_check_is_listed_with_numbers():
    with pytest.raises(AssertionError) as caught:
        testing.check_operator(Halved((3, 8, 8), wrong=True))
    lines = str(caught.value).splitlines()
    failed = [line.split(":")[0].strip() for line in lines[1:]]
    assert failed == ["vjp", "differentiable", "loss_gradient", "dot_test"]
    assert lines[0] == "operator Halved: 4 of 23 checks failed"
    assert "relative error" in lines[1]


def test_expected_failures_must_fail():
    expected = {
        name: "the adjoint is wrong" for name in ("vjp", "differentiable", "loss_gradient", "dot_test")
    }
    outcomes = testing.check_operator(Halved((3, 8, 8), wrong=True), expected_failures=expected)
    assert [o.check for o in outcomes if o.status == "expected"] == list(expected)
    with pytest.raises(AssertionError, match="dot_test: passes, but should fail: the adjoint is wrong"):
        testing.check_operator(Halved((3, 8, 8)), expected_failures={"dot_test": "the adjoint is wrong"})


def test_an_expected_failure_of_no_check_is_refused():
    with pytest.raises(UserError, match="no check 'dot_tset'.*did you mean 'dot_test'"):
        testing.check_operator(Halved((3, 8, 8)), expected_failures={"dot_tset": "mistyped"})


def test_a_section_of_a_recipe_will_do():
    with pytest.raises(UserError, match="unknown key"):
        testing.check_operator({"use": "identity", "amount": 2})
    assert testing.check_operator({"use": "identity"}, shape=(1, 5, 6))


def test_an_exception_in_one_check_does_not_stop_the_others():
    class Broken(Halved):
        def to_image(self, y):
            raise KeyError("palette")

    with pytest.raises(AssertionError, match=r"shapes: KeyError: 'palette'") as caught:
        testing.check_operator(Broken((3, 8, 8)))
    assert "dot_test" not in str(caught.value)


def test_a_kind_without_checks_is_refused():
    with pytest.raises(UserError, match="no checks for a trainer"):
        testing.check("trainer", {"use": "prior"})


def test_parameters_have_readable_names_and_marks():
    parameters = testing.cases(
        "operator", HalvedSettings(wrong=True), expected_failures={"dot_test": "wrong on purpose"}
    )
    names = [p.id for p in parameters]
    assert names[:2] == ["halved-shapes", "halved-dtypes"]
    marked = {p.id: p.marks[0] for p in parameters if p.marks}
    assert list(marked) == ["halved-dot_test"]
    assert marked["halved-dot_test"].kwargs == {"reason": "wrong on purpose", "strict": True}


def test_what_is_costly_to_make_is_made_when_the_first_check_runs():
    made = []

    def make():
        made.append(1)
        return Halved((3, 8, 8))

    parameters = testing.cases("operator", make, name="late")
    assert not made
    for parameter in parameters[:3]:
        parameter.values[0]()
    assert made == [1]


@testing.parametrize("operator", HalvedSettings(), shape=(1, 6, 8), expected_failures=LIGHT)
def test_the_decorator_runs_every_check(check):
    check()
