"""Runs side by side: settings that differ, and paired differences against scipy's bootstrap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from daps_kit.report.compare import bootstrap, comparison, settings_that_differ
from daps_kit.report.reading import Result


def test_the_bootstrap_is_that_of_scipy(monkeypatch) -> None:
    values = np.random.default_rng(1).gamma(2.0, 1.5, 24)
    assert bootstrap(values) == bootstrap(values), "the same numbers each time"
    monkeypatch.setattr("daps_kit.report.compare.DRAWS", 100_000)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=100_000,
        batch=10_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert bootstrap(values) == pytest.approx([theirs.low, theirs.high], abs=0.015 * values.std())


def test_of_many_values_it_is_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, 3000)
    half = stats.norm.ppf(0.975) * values.std() / 3000**0.5
    assert bootstrap(values) == pytest.approx([values.mean() - half, values.mean() + half], abs=0.05 * half)


def test_one_value_has_no_interval() -> None:
    assert bootstrap(np.array([1.0])) is None


def test_settings_that_differ() -> None:
    first = {
        "sampler": {"kernel": {"use": "a", "steps": 4}, "tau": None},
        "runs": 2,
        "seed": 0,
        "output": "x",
    }
    other = {
        "sampler": {"kernel": {"use": "b"}, "tau": 0.1},
        "runs": 2,
        "seed": 0,
        "output": "y",
        "metrics": ["fid"],
    }
    assert settings_that_differ([first, first | {"output": "y"}]) == []
    assert settings_that_differ([first, other]) == [
        {"key": "sampler.kernel.use", "values": ["a", "b"]},
        {"key": "sampler.kernel.steps", "values": ["4", "–"]},
        {"key": "sampler.tau", "values": ["null", "0.1"]},
        {"key": "metrics", "values": ["–", "[fid]"]},
    ]


class Held(Result):
    """A run whose images and tensors are given."""

    def truth(self, name: str) -> torch.Tensor | None:
        return self.recipe["truths"].get(name)

    def measured(self, name: str) -> torch.Tensor | None:
        return self.recipe["measured"].get(name)


def held(psnr: dict[str, float], truths: dict[str, float], measured: dict[str, float] | None = None) -> Held:
    images = {
        name: {
            "posterior_mean": {"psnr": value, "residual": 1.0},
            "sample_mean": {"psnr": value - 3},
            "ensemble": None,
        }
        for name, value in psnr.items()
    }
    tensors = {"truths": truths, "measured": measured or {}}
    recipe = {kind: {n: torch.full((1, 2, 2), v) for n, v in of.items()} for kind, of in tensors.items()}
    return Held(Path("x"), recipe | {"runs": 1}, (), {"images": images})


def test_differences_are_of_the_images_that_both_have() -> None:
    first = held({"a": 20.0, "b": 25.0, "c": 30.0}, {"a": 0.1, "b": 0.2, "c": 0.3})
    other = held({"b": 26.0, "c": 29.5, "d": 1.0, "a": 90.0}, {"a": 0.7, "b": 0.2, "c": 0.3, "d": 0.4})
    (pair,) = comparison([first, other])["pairs"]
    assert (pair["run"], pair["images"], pair["other"]) == (1, 2, 1)
    row = pair["rows"][0]
    assert (row["of"], row["metric"]) == ("mean", "PSNR (dB)")
    assert row["difference"] == pytest.approx(0.25)
    assert row["interval"] == pytest.approx([-0.5, 1.0])
    assert (row["better"], row["images"]) == (1, 2)
    residual = next(row for row in pair["rows"] if row["key"] == "residual")
    assert residual["better"] is None, "neither more nor less is better"


def test_without_truths_the_measurements_tell() -> None:
    first = held({"a": 1.0, "b": 2.0}, {}, {"a": 0.0, "b": 0.5})
    other = held({"a": 3.0, "b": 4.0}, {}, {"a": 0.0, "b": -0.5})
    (pair,) = comparison([first, other])["pairs"]
    assert (pair["images"], pair["other"]) == (1, 1)
    assert pair["rows"][0]["interval"] is None
