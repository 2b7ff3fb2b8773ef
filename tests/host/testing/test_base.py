"""The checks that all kinds of components share."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest
import torch

from daps_kit import testing
from daps_kit.testing.base import expect_no_global_randomness
from daps_kit.testing.checks import make_case


def test_global_random_states_are_put_back():
    before = torch.get_rng_state()
    with pytest.raises(AssertionError, match="global random state of torch was moved"):
        expect_no_global_randomness(lambda: torch.randn(1))
    assert torch.equal(torch.get_rng_state(), before)


HEAVY = """
import torch
from pydantic import Field
from daps_kit.settings import KernelSettings, NoiseSettings, OperatorSettings, PriorSettings, SamplerSettings

class Operator(OperatorSettings):
    "An operator with a parameter that nobody explains."
    name = "o"
    amount: float = 1.0
    def build(self, *, shape, seed, device): ...

class Noise(NoiseSettings):
    "A noise model with a parameter that nobody explains."
    name = "n"
    amount: float = 1.0
    def model(self): ...

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
