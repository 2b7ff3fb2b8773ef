"""What trainers share: the loop with its reports and checkpoints, and a folder that goes on from where it was left."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daps_kit import tensor_file, training
from daps_kit.errors import UserError
from daps_kit.trainer import TrainingProgress
from daps_kit.training import Learner, Pace, TrainingFolder, train

PACE = Pace(images=21, batch_size=2, epoch=6, checkpoint_seconds=1e9)


class Sum(Learner):
    """Adds up the numbers of its steps; its loss is 1 / step, and NaN where it is told so."""

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        self.step, self.total, self.bad, self.tries = 0, torch.zeros(1), bad, 0

    def rate(self) -> float:
        return 0.5 / (self.step + 1)

    def advance(self) -> float:
        self.tries += 1
        if self.tries in self.bad:
            return math.nan
        self.step += 1
        self.total = self.total + self.step
        return 1 / self.step

    def tensors(self) -> dict[str, Tensor]:
        return {"total": self.total}

    def measure(self) -> dict[str, dict[str, float]]:
        return {"total": {"now": float(self.total)}}

    def record(self, report: TrainingProgress, folder: TrainingFolder) -> None:
        folder.record({"images": report.images, "loss": report.loss})


def images(folder: TrainingFolder) -> list[int]:
    return [json.loads(line)["images"] for line in folder.log.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    return TrainingFolder(tmp_path, 3, {"network": "small", "data": [1, 2]})


def test_a_training_reports_every_epoch_and_saves_its_end(folder: TrainingFolder) -> None:
    told: list[TrainingProgress] = []
    learner = Sum()
    train(learner, folder, PACE, told.append)
    assert PACE.steps == learner.step == 11  # the last batch counts in full
    assert [(each.images, each.of) for each in told] == [(6, 21), (12, 21), (18, 21), (22, 21)]
    assert [each.loss for each in told] == pytest.approx(
        [
            (1 + 1 / 2 + 1 / 3) / 3,
            (1 / 4 + 1 / 5 + 1 / 6) / 3,
            (1 / 7 + 1 / 8 + 1 / 9) / 3,
            (1 / 10 + 1 / 11) / 2,
        ]
    )
    assert [each.learning_rate for each in told] == [0.5 / 3, 0.5 / 6, 0.5 / 9, 0.5 / 11]
    assert [each.measured for each in told] == [{"total": {"now": n}} for n in (6.0, 21.0, 45.0, 66.0)]
    assert all(each.images_per_second > 0 for each in told)
    assert images(folder) == [6, 12, 18, 22]
    tensors, step = folder.resume() or ({}, 0)
    assert (tensors["total"].tolist(), step) == ([66.0], 11)


def test_time_decides_about_checkpoints_and_lines_between(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 1000, 4))  # a step takes 4 seconds
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(seconds)))
    told: list[TrainingProgress] = []
    saved: list[int] = []
    monkeypatch.setattr(TrainingFolder, "save", lambda self, tensors, step, loss: saved.append(step))
    train(Sum(), folder, Pace(8, 1, 100, checkpoint_seconds=10), told.append)
    assert [each.images for each in told] == list(range(1, 9))
    assert [each.measured is None for each in told] == [True] * 7 + [False]
    assert {round(each.images_per_second, 6) for each in told[:2]} == {0.25}
    assert saved == [3, 6, 8]  # the clock is read once more after each


def test_a_training_goes_on_from_its_checkpoint(folder: TrainingFolder) -> None:
    assert folder.resume() is None
    train(Sum(), folder, Pace(8, 2, 6, 1e9), lambda report: None)
    folder.record({"images": 10, "loss": 0.0})  # of an epoch that no checkpoint has
    with folder.log.open("a") as log:
        log.write('{"images": 1')  # of a program that was killed
    found = folder.resume()
    assert found is not None
    learner = Sum()
    learner.total, learner.step = found[0]["total"], found[1]
    train(learner, folder, PACE, lambda report: None)
    assert float(learner.total) == 66
    assert images(folder) == [6, 8, 12, 18, 22]


def test_a_loss_that_is_not_finite_ends_a_training_after_a_while(folder: TrainingFolder) -> None:
    learner = Sum(bad=frozenset({2, 3, *range(5, 24)}))
    told: list[TrainingProgress] = []
    train(learner, folder, PACE, told.append)
    assert learner.step == 11
    assert told[0].loss == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    before = folder.checkpoint.read_bytes()
    with pytest.raises(UserError, match="not a finite number 20 times in a row: use a smaller learning_rate"):
        train(Sum(bad=frozenset(range(3, 23))), folder, PACE, told.append)
    assert folder.checkpoint.read_bytes() == before


def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(folder: TrainingFolder) -> None:
    for step in (1, 2):
        folder.save({"x": torch.tensor([step])}, step)
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:-1])
    assert (folder.resume() or ({}, 0))[1] == 1
    assert (folder.path / "checkpoint.safetensors.damaged").exists()
    assert not folder.checkpoint.exists()
    assert (folder.resume() or ({}, 0))[1] == 1
    older = tensor_file.previous(folder.checkpoint)
    older.rename(folder.checkpoint)
    folder.checkpoint.write_bytes(b"")
    with pytest.raises(tensor_file.DamagedFile, match="not a whole"):
        folder.resume()


def test_the_checkpoint_of_another_training_is_refused(folder: TrainingFolder) -> None:
    folder.save({"x": torch.zeros(1)}, 5)
    with pytest.raises(UserError, match=r"has format 3; this version of daps-kit reads 4"):
        TrainingFolder(folder.path, 4, folder.identity).resume()
    with pytest.raises(UserError, match=r"other network \(small, now large\): change it back in the recipe"):
        TrainingFolder(folder.path, 3, {"network": "large", "data": [1, 2]}).resume()
    for step in (-1, None, "5"):
        tensor_file.write(folder.checkpoint, {}, {**folder.identity, "format": 3, "step": step})
        with pytest.raises(tensor_file.DamagedFile, match="does not say how many steps"):
            folder.resume()


def test_the_log_after_a_break_in_the_middle_of_an_epoch_is_that_of_an_unbroken_training(
    tmp_path: Path,
) -> None:
    def lines(folder: TrainingFolder) -> list[str]:
        return folder.log.read_text().splitlines()

    unbroken = TrainingFolder(tmp_path / "unbroken", 3, {})
    train(Sum(), unbroken, PACE, lambda report: None)
    broken = TrainingFolder(tmp_path / "broken", 3, {})
    with pytest.raises(KeyboardInterrupt):
        train(stopped(Sum()), broken, Pace(21, 2, 6, checkpoint_seconds=0), lambda report: None)
    again = TrainingFolder(tmp_path / "broken", 3, {})
    tensors, step = again.resume() or ({}, 0)
    assert step == 4  # in the middle of the second epoch
    learner = Sum()
    learner.total, learner.step = tensors["total"], step
    train(learner, again, PACE, lambda report: None)
    assert lines(again) == lines(unbroken)


def stopped(learner: Sum) -> Sum:
    """Return the learner, broken off in its fifth step."""
    advance = learner.advance

    def until() -> float:
        if learner.step == 4:
            raise KeyboardInterrupt
        return advance()

    learner.advance = until  # type: ignore[method-assign]
    return learner
