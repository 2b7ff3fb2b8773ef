"""A worker draws what the run would, from what it is told alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from daps_kit.errors import UserError
from daps_kit.executor import begin
from daps_kit.failures import Failure
from daps_kit.prior_check.build import build_prior
from daps_kit.recipe import load_recipe
from daps_kit.runs.cost import Cost
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.runner import run
from daps_kit.runs.worker import BEGIN, Batch, Into, Task, Trial, Worker, setup_of, shown_levels
from daps_priors.exact.gaussian import GaussianPrior

CPU = torch.device("cpu")


def silent(share: float) -> None:
    """Hear nothing."""


def begun(path: Any, *overrides: str, **changed: Any) -> Worker:
    """Begin the worker of a recipe as another process would."""
    (recipe,) = load_recipe(path, overrides)
    prior = build_prior(recipe.prior, recipe.data, CPU)
    said = json.loads(setup_of(recipe, prior, CPU))
    worker = begin(BEGIN, json.dumps(said | changed).encode(), 0)
    assert isinstance(worker, Worker)
    return worker


def test_a_batch_is_that_of_the_run(toy, tmp_path):
    operator = {"use": "inpainting", "mask": "random", "draw": "per_image"}
    path = toy(operator=operator)
    result = run(path, ["trajectory=2", "batch_size=2"], quiet=True)
    worker = begun(path, "trajectory=2")
    shares: list[float] = []
    for name in result.names:
        y = RunFolder(result.path).measured(name)[0]
        batch = Batch.unpack(worker(Task((name, name), (0, 1), (3, 16, 16), {name: y}).pack(), shares.append))
        for place in (0, 1):
            there = RunFolder(result.path).read_sample(name, place)
            assert torch.equal(batch.samples[place].x0, there.x0)
            assert torch.equal(batch.samples[place].average, there.average)
            same = replace(there, x0=batch.samples[place].x0, sigmas=(), average=batch.samples[place].average)
            assert batch.samples[place] == same
            levels = RunFolder(result.path).read_trajectory(name, place)
            for (sigma, images), (other, others) in zip(batch.trajectory, levels, strict=True):
                assert sigma == other
                assert all(torch.equal(images[key][place], others[key]) for key in others)
    assert len(set(shares)) == 7
    assert max(shares) == 1.0


def test_a_worker_that_shares_the_folder_writes_what_is_not_there(toy, tmp_path):
    path, names, runs = toy(), ("ash", "ash", "birch", "birch"), (0, 1, 0, 1)
    whole = RunFolder(run(path, ["trajectory=2", "batch_size=4"], quiet=True).path)
    ys = {name: whole.measured(name)[0] for name in names}
    worker, folder = begun(path, "trajectory=2"), RunFolder(tmp_path / "shared")
    with folder.claim("a: 1\n"), folder.shared() as token:
        # One is there already, one of another worker was lost, one is not wanted.
        there = Sample(torch.zeros(3, 16, 16))
        levels = [(1.0, dict.fromkeys(("x_t", "x0hat", "x0y"), there.x0))]
        folder.write_trajectory("ash", 0, levels)
        folder.write_sample("ash", 0, there)
        lost = Failure(0, 0, 0, 0.0, "worker", "it died")
        folder.write_sample("ash", 1, Sample(there.x0, lost))
        into = Into(str(folder.path), token, (0, 1, 3))
        said = Batch.unpack(worker(Task(names, runs, (3, 16, 16), ys, into).pack(), silent))
        assert torch.equal(folder.samples("ash", 1)[0].x0, there.x0)
        for name in ("ash", "birch"):
            for file in (folder.sample(name, 1), folder.trajectory(name, 1)):
                assert file.read_bytes() == (whole.path / file.relative_to(folder.path)).read_bytes()
        assert not folder.sample("birch", 0).exists()
    assert [sample.x0.numel() for sample in said.samples] == [0] * 4
    assert said.trajectory == []
    of_run = [whole.read_sample(*pair) for pair in zip(names, runs, strict=True)]
    assert [(s.failure, s.cost, s.doubts) for s in said.samples] == [
        (s.failure, s.cost, s.doubts) for s in of_run
    ]


def test_a_worker_that_does_not_see_the_folder_says_so_before_it_works(toy, tmp_path, monkeypatch):
    worker = begun(toy())
    monkeypatch.setattr(GaussianPrior, "denoise", lambda *_: pytest.fail("it worked"))
    into = Into(str(tmp_path / "elsewhere"), "token", (0,))
    task = Task(("ash",), (0,), (3, 16, 16), {"ash": torch.zeros(3, 16, 16)}, into)
    with pytest.raises(
        UserError, match="shared_folder: a worker on .* does not see .*elsewhere as the run does"
    ):
        worker(task.pack(), silent)
    assert not (tmp_path / "elsewhere").exists()


def test_a_batch_is_unpacked_as_it_was_packed():
    lost = Failure(0, 2, 9, 0.5, "diverged", "less")
    doubt = Failure(0, 8, 9, 0.1, "residual", "more", 4.0)
    cost = Cost(7.5, 1.0, 3.0)
    samples = [
        Sample(torch.rand(1, 2, 3), None, cost, (doubt,)),
        Sample(torch.full((1, 2, 3), torch.nan), lost, cost),
    ]
    there = Batch.unpack(Batch(samples, [], ["a note"], ["a warning"], 1.5).pack())
    assert torch.equal(there.samples[0].x0, samples[0].x0)
    assert there.samples[1].x0.isnan().all()
    assert [(each.failure, each.cost, each.doubts) for each in there.samples] == [
        (each.failure, each.cost, each.doubts) for each in samples
    ]
    assert (there.trajectory, there.notes, there.warnings, there.seconds) == (
        [],
        ["a note"],
        ["a warning"],
        1.5,
    )


def test_other_versions_are_refused(toy):
    (recipe,) = load_recipe(toy())
    versions = json.loads(setup_of(recipe, build_prior(recipe.prior, recipe.data, CPU), CPU))["versions"]
    here = versions["libraries"]["torch"]
    versions["libraries"]["torch"] = "1.0"
    versions["plugins"]["daps-other"] = "3.2"
    with pytest.raises(UserError) as caught:
        begun(toy(), versions=versions)
    text = str(caught.value)
    assert text.startswith("execution: a worker has other versions than the run")
    assert text.endswith(f": torch {here} in place of 1.0; daps-other is not there in place of 3.2")


def test_memory_that_does_not_suffice_is_said_in_one_way(toy, monkeypatch):
    worker = begun(toy())
    task = Task(("ash",), (0,), (3, 16, 16), {"ash": torch.zeros(3, 16, 16)}).pack()

    def denoise(self: GaussianPrior, x: torch.Tensor, sigma: Any) -> torch.Tensor:
        raise error

    monkeypatch.setattr(GaussianPrior, "denoise", denoise)
    error: Exception = torch.cuda.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(MemoryError):
        worker(task, silent)
    error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        worker(task, silent)


def test_a_trial_counts_calls_of_the_denoiser(toy, monkeypatch):
    worker = begun(toy())
    asked: list[tuple[int, ...]] = []
    original = GaussianPrior.denoise

    def denoise(self: GaussianPrior, x: torch.Tensor, sigma: Any) -> torch.Tensor:
        asked.append(tuple(x.shape))
        return original(self, x, sigma)

    monkeypatch.setattr(GaussianPrior, "denoise", denoise)
    rate = float(worker(Trial((3, 16, 16), 5, seconds=0.2).pack(), silent))
    assert set(asked) == {(5, 3, 16, 16)}
    assert 0 < rate <= 5 * len(asked)


def test_a_prior_that_must_be_told_the_shape_is_told_it(toy):
    path = toy(prior={"use": "gaussian", "std": 0.4})
    worker = begun(path)
    assert isinstance(worker.prior, GaussianPrior)


def test_shown_levels_are_spread_evenly_from_the_first_to_the_last():
    assert shown_levels(0, 10) == set()
    assert shown_levels(1, 10) == {9}
    assert shown_levels(2, 10) == {0, 9}
    assert shown_levels(4, 10) == {0, 3, 6, 9}
    assert shown_levels(9, 4) == {0, 1, 2, 3}
    assert shown_levels(10**15, 1) == {0}
    assert shown_levels(10**15, 3) == {0, 1, 2}
