"""The folder of a run: whole files, one program at a time, one recipe, damage noticed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from daps_kit.errors import UserError
from daps_kit.failures import Failure
from daps_kit.remote import mirror
from daps_kit.runs.cost import Cost
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.store import Key
from daps_kit.tensor_file import write_plain


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "out")


def test_samples_come_back_bit_for_bit_with_their_failure(folder):
    x0 = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    folder.write_sample("a", 0, Sample(x0, cost=Cost(21.0, 2.0, 5.0)))
    failure = Failure(2, level=4, levels=20, sigma=1.5, cause="diverged", advice="take smaller steps")
    folder.write_sample("a", 1, Sample(torch.full((3, 5, 7), math.nan), failure))
    whole, lost = folder.samples("a", 2)
    assert torch.equal(whole.x0, x0)
    assert (whole.failure, whole.cost) == (None, Cost(21.0, 2.0, 5.0))
    assert lost.x0.isnan().all()
    assert (lost.failure, lost.cost) == (failure, None)
    assert str(failure) == "lost at level 5 of 20 (sigma 1.5): the chain diverged; take smaller steps"
    assert torch.equal(load_file(folder.sample("a", 0))["x0"], x0)


def test_what_speaks_against_a_sample_is_kept(folder):
    doubts = tuple(Failure(0, 19, 20, 0.05, cause, "look at it", 1.5) for cause in ("residual", "solver"))
    folder.write_sample("a", 0, Sample(torch.zeros(3, 2, 2), doubts=doubts))
    (sample,) = folder.samples("a", 1)
    assert (sample.failure, sample.doubts) == (None, doubts)


def test_failures_of_earlier_versions_are_read(folder):
    said = {"level": 4, "levels": 20, "sigma": 1.5, "reason": "the chain diverged; take smaller steps"}
    write_plain(folder.sample("a", 0), {"x0": torch.zeros(3, 2, 2)}, {"failure": json.dumps(said)})
    (sample,) = folder.samples("a", 1)
    assert str(sample.failure).endswith("the chain diverged; take smaller steps")
    assert (sample.failure.level, sample.failure.levels, sample.failure.sigma) == (4, 20, 1.5)


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_file_counts_as_missing(folder, keep):
    folder.write_sample("a", 0, Sample(torch.zeros(3, 4, 4)))
    folder.write_measurement("a", torch.ones(3, 2, 2), None, {"mask": torch.zeros(2, 2)})
    for path in (folder.sample("a", 0), folder.measurement("a")):
        path.write_bytes(path.read_bytes()[:keep])
    assert folder.read_sample("a", 0) is None
    assert folder.read_measurement("a") is None
    with pytest.raises(UserError, match=r"sample-01.safetensors is missing or damaged"):
        folder.samples("a", 1)
    with pytest.raises(UserError, match=r"a.safetensors is missing or damaged"):
        folder.measured("a")


def test_measurement_keeps_the_state_of_its_operator(folder):
    y, truth, mask = torch.rand(3, 2, 2), torch.rand(3, 4, 4), torch.eye(4)
    folder.write_measurement("a", y, truth, {"mask": mask})
    found, _ = folder.read_if_whole(Key("measurement", "a")) or ({}, {})
    assert torch.equal(found["operator.mask"], mask)
    stored = folder.measured("a")
    assert torch.equal(stored[0], y)
    assert stored[1] is not None
    assert torch.equal(stored[1], truth)


def test_what_was_written_for_another_place_is_not_there(folder):
    folder.write_measurement("a", torch.rand(3, 2, 2), None, {})
    for name in ("a", "b"):
        for run in (0, 1):
            folder.write_sample(name, run, Sample(torch.rand(3, 2, 2)))
    for path, other in (
        (folder.sample("a", 0), folder.sample("a", 1)),
        (folder.sample("b", 0), folder.sample("a", 0)),
        (folder.measurement("b"), folder.measurement("a")),
    ):
        path.write_bytes(other.read_bytes())
    assert folder.read_sample("a", 0) is folder.read_sample("b", 0) is folder.read_measurement("b") is None
    assert folder.read_sample("a", 1) is not None


def test_a_sample_that_is_a_link_to_nothing_takes_no_room(folder):
    folder.path.mkdir()
    with folder.claim("a: 1\n"):
        folder.write_sample("a", 0, Sample(torch.rand(3, 2, 2)))
        folder.sample("a", 1).symlink_to(folder.path / "gone")
        folder.require_disk(1)
    assert folder.read_sample("a", 1) is None


def test_numbers_that_are_not_finite_become_null(folder):
    folder.write_json("x.json", {"a": [math.nan, 1.5], "b": {"c": math.inf}})
    assert json.loads((folder.path / "x.json").read_text()) == {"a": [None, 1.5], "b": {"c": None}}


def test_the_recipe_is_written_first_and_leftovers_go(folder):
    folder.path.mkdir()
    (folder.path / ".run.7.tmp").write_bytes(b"half")
    with folder.claim("a: 1\n"):
        assert (folder.path / "recipe.yaml").read_text() == "a: 1\n"
        assert not (folder.path / ".run.7.tmp").exists()


def test_another_recipe_is_refused_with_the_difference(folder):
    first = "seed: 1\nsampler:\n  steps: 5\n  lr: 5e-05\nbatch_size: 4\noutput: a\n"
    with folder.claim(first):
        pass
    with folder.claim(first.replace("batch_size: 4", "batch_size: auto").replace("output: a", "output: b")):
        pass
    with (
        pytest.raises(UserError) as caught,
        folder.claim(first.replace("5\n", "6\n").replace("seed: 1\n", "")),
    ):
        pass
    message = str(caught.value)
    assert "    seed: 1 there, not set here" in message
    assert "    sampler.steps: 5 there, 6 here" in message
    assert "batch_size" not in message
    assert (folder.path / "recipe.yaml").read_text() == first


def test_a_recipe_of_which_nothing_came_does_not_stay(folder):
    with pytest.raises(UserError, match="no such"), folder.claim("a: 1\n"):
        raise UserError("no such image")
    assert not (folder.path / "recipe.yaml").exists()

    def measured_then_wrong():
        with folder.claim("a: 2\n"):
            folder.write_measurement("x", torch.zeros(1, 2, 2), None, {})
            raise UserError("too late")

    with pytest.raises(UserError, match="too late"):
        measured_then_wrong()
    with pytest.raises(UserError, match="another recipe"), folder.claim("a: 3\n"):
        pass


def test_a_folder_with_something_else_is_refused(folder):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("")
    with (
        pytest.raises(UserError, match=r"holds something that is no run \(thesis.tex"),
        folder.claim("a: 1\n"),
    ):
        pass
    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(folder):
    folder.path.write_text("")
    with pytest.raises(UserError, match=r"cannot use .*out as output"), folder.claim("a: 1\n"):
        pass


def test_two_programs_do_not_share_a_folder(folder):
    again = RunFolder(folder.path).claim("a: 1\n")
    with folder.claim("a: 1\n"), pytest.raises(UserError, match="another daps-kit is at work"), again:
        pass
    with folder.claim("a: 1\n"):
        pass
    with FileLock(folder.path / ".lock"), pytest.raises(UserError, match="at work"), folder.claim("a: 1\n"):
        pass


def test_the_batch_size_is_remembered(folder):
    assert folder.batch_size is None
    folder.write_environment(torch.device("cpu"), 8, 2)
    assert folder.batch_size == 8
    content = json.loads((folder.path / "environment.json").read_text())
    assert content["libraries"]["torch"] == torch.__version__
    assert content["device"] == "cpu"
    folder.add_seconds(1.5, 4)
    folder.write_environment(torch.device("cpu"), 8, 2)
    folder.add_seconds(0.5, 2)
    content = json.loads((folder.path / "environment.json").read_text())
    assert (content["seconds"], content["drawn"], content["batch_size"]) == (2.0, 6, 8)
    (folder.path / "environment.json").write_text("{")
    assert folder.batch_size is None


def test_tensors_on_the_way_to_disk_may_be_views(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    write_plain(tmp_path / "x.safetensors", {"t": base.T, "a": base[0], "b": base[0]})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["t"], base.T)


def test_workers_are_told_the_folder_from_any_other(folder, tmp_path):
    seen_by_worker = RunFolder(folder.path)
    with folder.claim("a: 1\n"), folder.shared() as token:
        seen_by_worker.require_shared(token)
        with pytest.raises(
            UserError, match=r"shared_folder: a worker on \S+ does not see .*out as the run does"
        ):
            seen_by_worker.require_shared("another")
        with pytest.raises(UserError, match="elsewhere as the run does"):
            RunFolder(tmp_path / "elsewhere").require_shared(token)
    with pytest.raises(UserError, match="as the run does"):
        seen_by_worker.require_shared(token)


def test_what_workers_of_a_killed_program_are_at_is_not_written(folder):
    with folder.claim("a: 1\n"):
        killed = folder.shared()
        token = killed.__enter__()
    folder.require_shared(token)
    with folder.claim("a: 1\n"), pytest.raises(UserError, match="as the run does"):
        folder.require_shared(token)


def test_what_is_no_file_system_is_not_shared(folder):
    folder.require_shareable()
    there = mirror("s3://bucket/out")
    assert there is not None
    with pytest.raises(UserError, match="shared_folder: s3://bucket/out is not in a file system"):
        RunFolder(there).require_shareable()


def test_a_finished_sample_has_its_shape_and_its_trajectory(folder):
    def finished(run: int, **wanted) -> bool:
        found = {folder.finished("a", run, (3, 2, 2), **wanted, outline=outline) for outline in (True, False)}
        assert len(found) == 1
        return found.pop()

    images = {key: torch.zeros(3, 2, 2) for key in ("x_t", "x0hat", "x0y")}
    lost = Failure(0, 0, 0, 0.0, "worker", "it died")
    folder.write_sample("a", 0, Sample(torch.zeros(3, 2, 2), sigmas=(0.5,)))
    folder.write_sample("a", 1, Sample(torch.zeros(3, 2, 3)))
    folder.write_sample("a", 2, Sample(torch.zeros(3, 2, 2), lost))
    assert [finished(run, trajectory=False) for run in range(4)] == [True, False, False, False]
    assert not finished(0, trajectory=True)
    folder.write_trajectory("a", 0, [(0.1, images)])
    assert not finished(0, trajectory=True)
    folder.write_trajectory("a", 0, [(0.5, images)])
    assert finished(0, trajectory=True)
