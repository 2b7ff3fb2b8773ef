"""Training: it learns, it survives broken-off runs and full disks, and it says what is wrong with its input."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit import files
from daps_kit.errors import UserError
from daps_kit.trainer import TrainingProgress
from daps_kit.training_images import split
from daps_priors.trained import weights
from daps_priors.training.augment import centre
from daps_priors.training.dataset import load_images
from tests.priors.training.discs import NETWORK, Stop, log, recipe, shapes, stop_after, tensors


def test_it_learns_what_a_gaussian_cannot(data: Path, tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    settings = recipe(data, tmp_path, images_seen=4800, epoch=2400, checkpoint_seconds=60)
    path = settings.build().run(reports.append)
    model, calibration, description = weights.load(path)
    last = log(tmp_path)[-1]
    assert last["images"] == 4800
    for sigma in ("0.5", "1.0"):
        assert last["mse"][sigma] < 0.85 * last["linear_mse"][sigma]
    assert reports[-1].measured is not None
    assert reports[-1].measured["mse"] == last["mse"]
    assert reports[-1].loss < 0.95
    held = centre(torch.from_numpy(shapes()[split(240, 24, settings.seed)[1]]), 16)
    noisy = held + 0.5 * torch.randn(held.shape, generator=torch.Generator().manual_seed(1))
    error = (model(noisy, torch.tensor(0.5)) - held).square().mean()
    assert float(error) == pytest.approx(float(calibration.mse[calibration.sigma == 0.5]), rel=0.15)
    assert description["training"]["images_seen"] == 4800
    assert description["calibration"]["images"] == 24


def test_a_run_writes_what_it_promises(finished: Path) -> None:
    assert [line["images"] for line in log(finished)] == [80, 160]
    assert sorted(p.name for p in finished.iterdir()) == [
        "checkpoint.safetensors",
        "checkpoint.safetensors.previous",
        "log.jsonl",
        "samples-000000080.png",
        "samples-000000160.png",
        "weights.safetensors",
    ]
    with Image.open(finished / "samples-000000160.png") as picture:
        assert picture.size == (8 * 16, 8 * 16)


def test_a_stopped_run_goes_on_as_the_unbroken_one(data: Path, finished: Path, tmp_path: Path) -> None:
    settings = recipe(data, tmp_path)
    for images in (48, 112):
        with pytest.raises(Stop):
            settings.model_copy(update={"epoch": 16}).build().run(stop_after(images))
    settings.build().run()
    unbroken = tensors(finished)
    resumed = tensors(tmp_path)
    assert unbroken.keys() == resumed.keys()
    for name, value in unbroken.items():
        assert torch.equal(value, resumed[name]), name
    seen = [line["images"] for line in log(tmp_path)]
    assert seen == sorted(set(seen))
    assert log(tmp_path)[-1]["mse"] == log(finished)[-1]["mse"]


def test_a_finished_run_can_be_trained_further(data: Path, finished: Path, tmp_path: Path) -> None:
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    reports: list[TrainingProgress] = []
    recipe(data, tmp_path, images_seen=320).build().run(reports.append)
    assert reports[0].images > 160
    assert reports[0].learning_rate > 5e-4
    assert reports[-1].images == 320


def test_a_damaged_checkpoint_gives_way_to_the_one_before(data: Path, finished: Path, tmp_path: Path) -> None:
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    last = tmp_path / "checkpoint.safetensors"
    last.write_bytes(last.read_bytes()[:5000])
    recipe(data, tmp_path).build().run()
    assert (tmp_path / "checkpoint.safetensors.damaged").stat().st_size == 5000
    for name, value in tensors(finished).items():
        assert torch.equal(value, tensors(tmp_path)[name]), name


def test_a_damaged_checkpoint_with_none_before_is_an_error(data: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "checkpoint.safetensors"
    damaged.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a whole"):
        recipe(data, tmp_path).build().run()
    assert damaged.read_bytes() == b"not a checkpoint"


def test_a_full_disk_leaves_the_last_checkpoint(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = tensors(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        recipe(data, tmp_path, images_seen=320).build().run()
    monkeypatch.undo()
    assert {p.suffix for p in tmp_path.iterdir()} <= {".safetensors", ".previous", ".jsonl", ".png"}
    for name, value in before.items():
        assert torch.equal(value, tensors(tmp_path)[name])
    recipe(data, tmp_path, images_seen=320).build().run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": NETWORK | {"channels": (8, 24)}}, r"other network .*channels.*16.*24"),
        ({"batch_size": 32}, "other batch_size .16, now 32."),
        ({"validation": 20}, "other images .216 images.*220 images"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    data: Path, finished: Path, changes: dict[str, Any], message: str
) -> None:
    before = (finished / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UserError, match=message):
        recipe(data, finished, images_seen=320, **changes).build().run()
    assert (finished / "checkpoint.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_ends_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="smaller learning_rate"):
        recipe(data, tmp_path, learning_rate=1e12, clip=1e12, images_seen=16 * 60, epoch=10**6).build().run()
    assert all(bool(torch.isfinite(v).all()) for v in tensors(tmp_path).values())


def test_the_global_random_state_is_left_alone(data: Path, tmp_path: Path) -> None:
    before, legacy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    recipe(data, tmp_path, images_seen=16).build().run()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    np.savez(tmp_path / "many.npz", images=shapes(40, 20, channels))
    settings = recipe(tmp_path / "many.npz", tmp_path, validation=8, images_seen=32, augment={"strong": 0.5})
    model, _, _ = weights.load(settings.build().run())
    assert model.shape == (channels, 16, 16)
    assert load_images(tmp_path / "many.npz", 10).shape == (40, 10, 10, channels)


def test_it_starts_from_finished_weights(data: Path, finished: Path, tmp_path: Path) -> None:
    wider = NETWORK | {"channels": (16, 16), "blocks": (2, 1)}
    settings = recipe(
        data,
        tmp_path,
        start=finished / "weights.safetensors",
        network=wider,
        images_seen=8,
        learning_rate=1e-12,
    )
    grown = weights.load(settings.build().run())[0]
    small = weights.load(finished / "weights.safetensors")[0]
    x, sigma = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0)), torch.tensor(1.0)
    torch.testing.assert_close(grown(x, sigma), small(x, sigma), rtol=1e-2, atol=1e-2)


def test_weights_that_do_not_fit_to_start_from_are_an_error(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    narrower = NETWORK | {"channels": (8, 8)}
    settings = recipe(data, tmp_path, start=finished / "weights.safetensors", network=narrower)
    with pytest.raises(UserError, match=r"training cannot start from .* are wider"):
        settings.build().run()
    with pytest.raises(UserError, match="images of another shape"):
        recipe(data, tmp_path, start="embedded").build().run()
    assert not (tmp_path / "checkpoint.safetensors").exists()
