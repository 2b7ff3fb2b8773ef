"""The two front ends of the conformance kit, and what they say."""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import Field

from daps_kit import testing
from daps_kit.contracts import GaussianNoise, LinearOperator
from daps_kit.discovery import Plugin
from daps_kit.errors import UserError
from daps_kit.registry import Registry
from daps_kit.settings import OperatorSettings
from daps_kit.testing.base import expect_no_global_randomness
from daps_kit.testing.checks import make_case
from daps_kit.testing.plugins import check_plugin, in_words


class Halved(LinearOperator):
    """y = x / 2, with an adjoint that is wrong where asked."""

    def __init__(self, shape, wrong=False):
        super().__init__(shape, GaussianNoise(0.1))
        self.wrong = wrong

    def forward(self, x):
        return x / 2

    def adjoint(self, y):
        return y if self.wrong else y / 2


class HalvedSettings(OperatorSettings):
    """Half of the image is measured."""

    name = "halved"
    wrong: bool = Field(False, description="whether the adjoint is wrong")

    def build(self, *, shape: Any, seed: int, device: torch.device) -> Halved:
        if shape[0] == 2:
            raise UserError("halved needs 1 or 3 channels")
        return Halved(shape, self.wrong)


class NeedsPath(HalvedSettings):
    """Half of the image, by a file."""

    name = "needs_path"
    path: str = Field(description="a file")


LIGHT = {"settings_import_is_light": "this file imports torch"}


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add(HalvedSettings, NeedsPath, distribution="daps-half", version="1.0")
    plugin = Plugin("daps-half:half", "daps-half", "1.0", "half", "ok", provides=tuple(made.components()))
    broken = Plugin(
        "daps-bad:bad", "daps-bad", "2.0", "bad", "broken", error="ImportError: x", remedy="install x"
    )
    made.plugins += [plugin, broken]
    return made


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
    assert lines[0] == "operator Halved: 4 of 21 checks failed"
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


def test_global_random_states_are_put_back():
    before = torch.get_rng_state()
    with pytest.raises(AssertionError, match="global random state of torch was moved"):
        expect_no_global_randomness(lambda: torch.randn(1))
    assert torch.equal(torch.get_rng_state(), before)


# --- an installed plugin


def test_a_plugin_is_checked_component_by_component(registry):
    reports = check_plugin("daps-half", registry)
    lines = in_words(reports)
    assert lines[0].startswith("operator/halved: ")
    assert "1 failed" in lines[0]
    assert "settings_import_is_light" in lines[1]
    assert lines[-1] == (
        "operator/needs_path: not checked, its defaults are not enough (path); its own tests can give more"
    )


def test_one_component_and_a_shape(registry):
    (report,) = check_plugin("operator/halved", registry, shape=(2, 8, 8))
    assert report.skipped == "it cannot be built with its defaults: halved needs 1 or 3 channels"
    (report,) = check_plugin("operator/daps-half/halved", registry, shape=(1, 8, 8))
    assert {o.check for o in report.failed} == set(LIGHT)
    assert replace(report, outcomes=()).failed == ()


def test_a_plugin_that_is_not_there_or_does_not_work(registry):
    with pytest.raises(
        UserError, match=r"no plugin 'daps-halv'; there are daps-bad, daps-half; did you mean 'daps-half'"
    ):
        check_plugin("daps-halv", registry)
    with pytest.raises(UserError, match=r"daps-bad 2.0 is broken: ImportError: x \(install x\)"):
        check_plugin("daps-bad", registry)


# --- the checks that all kinds share


HEAVY = """
import torch
from pydantic import Field
from daps_kit.settings import KernelSettings, OperatorSettings, PriorSettings, SamplerSettings

class Operator(OperatorSettings):
    "An operator with a parameter that nobody explains."
    name = "o"
    amount: float = 1.0
    def build(self, *, shape, seed, device): ...

class Prior(PriorSettings):
    "A prior with a parameter that nobody explains."
    name = "p"
    amount: float = 1.0
    def build(self, *, shape, device): ...

class Kernel(KernelSettings):
    "A kernel with a parameter that nobody explains."
    name = "k"
    amount: float = 1.0
    def build(self): ...

class Sampler(SamplerSettings):
    "Short."
    name = "s"
    def build(self): ...
"""


@pytest.fixture
def heavy_plugin(tmp_path, monkeypatch):
    (tmp_path / "heavy_plugin.py").write_text(HEAVY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("heavy_plugin")
    del sys.modules["heavy_plugin"]


@pytest.mark.parametrize("kind", list(testing.CHECKS))
def test_settings_that_are_not_described_or_heavy_are_caught(kind, heavy_plugin):
    checks = {check.__name__: check for check in testing.CHECKS[kind]}
    case = make_case(kind, getattr(heavy_plugin, kind.capitalize())())
    message = "one short sentence" if kind == "sampler" else "without a description: amount"
    with pytest.raises(AssertionError, match=message):
        checks["settings_described"](case)
    with pytest.raises(AssertionError, match="importing heavy_plugin imports torch"):
        checks["settings_import_is_light"](case)


def test_checks_say_what_they_check():
    for kind, checks in testing.CHECKS.items():
        for check in checks:
            assert inspect.getdoc(check), (kind, check)
