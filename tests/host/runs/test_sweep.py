"""Sweeps and searches: a folder of run folders that goes on, and what compares them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import daps_kit
from daps_kit.errors import UserError
from daps_kit.runs import runner
from daps_kit.runs.events import EventDisplay
from daps_kit.runs.runner import run as run_one
from tests.host.command_line import call, ok

RECIPE = """format: 1
data: {use: prior, count: 1, image_shape: [1, 8, 8]}
prior: {use: gaussian, mean: 0.0, std: 0.4}
operator: {use: identity, noise: {use: gaussian, sigma: 0.2}}
sampler: {use: daps, annealing: {use: edm, levels: 3, sigma_max: 5.0, sigma_min: 0.05}}
check_prior: false
output: out
"""
SWEEP = "sweep: {operator.noise.sigma: [0.1, 0.4], seed: [1, 2]}\n"
SEARCH = """search:
  objective: sample_mean.psnr
  direction: maximize
  trials: %d
  ranges: {operator.noise.sigma: {low: 0.05, high: 0.8, log: true}, seed: [1, 2]}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def make(text: str) -> str:
        Path("s.yaml").write_text(RECIPE + text)
        return "s.yaml"

    return make


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the points are added that are run."""
    names: list[str] = []

    def watched(recipes, **how):
        names.append(recipes[0].output.name)
        return run_one(recipes, **how)

    monkeypatch.setattr(runner, "run", watched)
    return names


def test_a_sweep_is_the_runs_of_its_points(write, monkeypatch) -> None:
    lines: list[str] = []
    result = daps_kit.run(write(SWEEP), progress=EventDisplay(lines.append))
    one = daps_kit.run(write(""), ["operator.noise.sigma=0.4", "seed=2", "output=one"], quiet=True)
    assert (result.tasks[3].samples == one.samples).all()
    assert sum('"event": "point"' in line for line in lines) == 4
    rows = list(csv.DictReader(Path("out/sweep.csv").read_text().splitlines()))
    assert [(row["operator.noise.sigma"], row["seed"]) for row in rows] == [
        ("0.1", "1"), ("0.1", "2"), ("0.4", "1"), ("0.4", "2"),
    ]  # fmt: skip
    assert float(rows[3]["sample_mean.psnr"]) == one.metrics["summary"]["sample_mean"]["psnr"]["mean"]
    page = Path("out/report.html").read_text()
    assert all(f"sigma={sigma},seed={seed}" in page for sigma in (0.1, 0.4) for seed in (1, 2))
    assert ok("runs", "out").count("finished") == 4
    assert ok("table", "out").count("| gaussian |") == 4
    assert len(daps_kit.open("out").tasks) == 4

    Path("out/sigma=0.1,seed=2/metrics.json").unlink()
    names = drawn(monkeypatch)
    daps_kit.run(write(SWEEP), quiet=True)
    assert names == ["sigma=0.1,seed=2"], "what is finished is not touched"
    with pytest.raises(UserError, match="holds a run; choose another folder"):
        daps_kit.run(write(SWEEP), ["output=one"], quiet=True)
    with pytest.raises(UserError, match="a sweep has no parts"):
        daps_kit.run(write(SWEEP), shard="1/2", quiet=True)


def test_a_search_goes_on_to_what_an_unbroken_one_finds(write, monkeypatch) -> None:
    pytest.importorskip("optuna")
    daps_kit.run(write(SEARCH % 3), ["output=whole"], quiet=True)

    def killed(recipes, **how):
        if recipes[0].output.name == "trial-001":
            raise KeyboardInterrupt
        return run_one(recipes, **how)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            daps_kit.run(write(SEARCH % 3), quiet=True)
    names = drawn(monkeypatch)
    daps_kit.run(write(SEARCH % 3), quiet=True)
    assert names == ["trial-001", "trial-002"]
    assert Path("out/sweep.csv").read_text() == Path("whole/sweep.csv").read_text()
    rows = list(csv.DictReader(Path("out/sweep.csv").read_text().splitlines()))
    psnr = [float(row["sample_mean.psnr"]) for row in rows]
    assert psnr == sorted(psnr, reverse=True), "the best is first"
    with pytest.raises(UserError, match="holds another search"):
        daps_kit.run(write(SEARCH % 3), ["search.direction=minimize"], quiet=True)


def test_the_command_line(write) -> None:
    assert ok("run", "-q", "-m", write(""), "seed=1,2") == ""
    assert sorted(path.name for path in Path("out").iterdir() if path.is_dir()) == ["seed=1", "seed=2"]
    told = call("check", "-m", write(""), "seed=1,2").stdout
    assert told.count("valid; results go to") == 2
    assert ok("check", "--resolved", write(SWEEP)).count("\nseed: 2\n") == 2
    wrong = call("check", write((SEARCH % 3).replace("psnr", "pnsr")))
    assert wrong.exit_code == 2
    assert "s.yaml:9:14: search.objective: no such metric: sample_mean.pnsr" in wrong.stderr
    assert "did you mean 'sample_mean.psnr'?" in wrong.stderr


def test_points_that_give_nothing_are_results_too(write) -> None:
    text = "sweep: {sampler.kernel.use: [exact, langevin], operator.noise: [{use: laplace, scale: 0.1}]}\n"
    daps_kit.run(write(text), quiet=True)
    told = Path("out/sweep.md").read_text()
    assert "## Points without a result\n\n- use=exact,noise=laplace scale=0.1: " in told
