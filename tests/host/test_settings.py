"""The base classes of settings, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.sections import read_section
from daps_kit.settings import (
    FilePath,
    FloatRange,
    GaussianNoiseSettings,
    KernelSettings,
    OperatorSettings,
    Settings,
    members,
)
from daps_operators.noises import Poisson


class Some(Settings):
    number: float = Field(1.0, gt=0)
    count: int = 1
    span: FloatRange = (0.0, 1.0)
    file: FilePath | None = None


@pytest.mark.parametrize(
    "values",
    [{"nmuber": 1.0}, {"number": "1"}, {"number": True}, {"number": float("nan")}, {"number": float("inf")},
     {"count": 1.0}, {"count": "1"}, {"count": True}, {"span": (1.0,)}, {"span": "01"}, {"span": (0.0, "1")}],
)  # fmt: skip
def test_settings_refuse_what_is_not_exactly_meant(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Some(**values)  # type: ignore[arg-type]


def test_settings_take_whole_numbers_for_numbers_and_lists_for_ranges() -> None:
    some = Some(number=3, span=[1, 2.5])  # type: ignore[arg-type]
    assert some.number == 3.0
    assert some.span == (1.0, 2.5)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Some().count = 2  # type: ignore[misc]


def test_noise_is_chosen_by_use() -> None:
    class Plain(OperatorSettings):
        """Plain."""

        name = "plain"

        def build(self, *, shape, seed, device): ...  # type: ignore[no-untyped-def, override]

    assert Plain().noise == GaussianNoiseSettings(sigma=0.05)
    noise = read_section("noise", {"use": "poisson", "peak": 20.0})
    assert Plain(noise=noise).noise == Poisson(peak=20.0)  # type: ignore[arg-type]
    assert not Plain().per_image
    built = noise.build()
    assert (built.peak, built.black) == (20.0, -1.0)  # type: ignore[attr-defined]
    assert GaussianNoiseSettings(sigma=0.2).build().dispersion == pytest.approx(0.04)


def test_a_summary_is_the_first_line_of_the_own_docstring() -> None:
    class Long(KernelSettings):
        """First line.

        More.
        """

    class Silent(Long):
        pass

    assert Long.summary() == "First line."
    assert Silent.summary() == ""


def test_members_of_an_annotation() -> None:
    assert members(int | None) == [int, type(None)]
    assert members(FilePath) == [Path]
    assert members(FilePath | int) == [Path, int]


@pytest.mark.parametrize("value", ["1e300", "1e-300", "-1e16", "1e-16"])
def test_numbers_beyond_single_precision_are_refused(value):
    for override in (f"widen={value}", f"operator.noise.clipped=[{value}, 2.0]", f"prior.std={value}"):
        with pytest.raises(UserError, match="beyond what single precision carries|at least 0|more than 0"):
            load_recipe("quickstart", ["prior.use=gaussian", override])


@pytest.mark.parametrize(
    "override", ["runs=1000000000", "sampler.budget=1000000000", "sampler.annealing.levels=1000000000"]
)
def test_counts_that_no_run_ends_with_are_refused(override):
    with pytest.raises(UserError, match="at most"):
        load_recipe("quickstart", [override])
