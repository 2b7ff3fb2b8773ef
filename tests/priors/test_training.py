"""Training: it learns, it survives kills and full disks, and it says what is wrong with its input."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from daps_kit import files, tensor_file
from daps_kit.errors import UserError
from daps_kit.trainer import TrainingProgress
from daps_priors.trained import weights
from daps_priors.training.augment import Augmentation, augment, centre
from daps_priors.training.batches import NoiseLevels
from daps_priors.training.dataset import load_images, split
from daps_priors.training.settings import TrainDenoiser
from daps_priors.training.state import Optimisation, ema_power
from daps_priors.training.teacher import Teacher

NETWORK = {"components": 8, "channels": (8, 16), "blocks": (1, 1), "embedding": 16, "attention": 1}


def shapes(count: int = 240, side: int = 16, channels: int = 3) -> np.ndarray:
    """Discs of random place, size and colour on a random ground: far from Gaussian."""
    rng = np.random.default_rng(0)
    grid = np.arange(side)
    y, x = rng.uniform(4, side - 4, (2, count, 1, 1))
    radius = rng.uniform(2, 6, (count, 1, 1))
    inside = ((grid[:, None] - y) ** 2 + (grid - x) ** 2 < radius**2)[..., None]
    disc, ground = rng.integers(0, 256, (2, count, 1, 1, channels))
    return np.where(inside, disc, ground).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "discs.npz"
    np.savez(path, images=shapes())
    return path


def recipe(images: Path, output: Path, **changes: Any) -> TrainDenoiser:
    given = {
        "images": images,
        "output": output,
        "frame": 16,
        "validation": 24,
        "network": NETWORK,
        "images_seen": 160,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "warm_up": 64,
        "epoch": 80,
        "checkpoint_seconds": 1e-3,
        "bfloat16": False,
        "seed": 5,
    }
    return TrainDenoiser(**(given | changes))


def tensors(output: Path) -> dict[str, torch.Tensor]:
    return tensor_file.read(output / "checkpoint.safetensors")[0]


def log(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


class Stop(Exception):
    """Raised out of a run, in place of a kill."""


def stop_after(images: int) -> Any:
    def progress(report: TrainingProgress) -> None:
        if report.images >= images:
            raise Stop

    return progress


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short run."""
    output = tmp_path_factory.mktemp("run") / "output"
    recipe(data, output).build().run()
    return output


@pytest.mark.parametrize("workers", [1, 2])
def test_it_learns_what_a_gaussian_cannot(data: Path, tmp_path: Path, workers: int) -> None:
    reports: list[TrainingProgress] = []
    settings = recipe(data, tmp_path, images_seen=4800, epoch=2400, checkpoint_seconds=60, workers=workers)
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


SCRIPT = """
import json, sys, torch
from pathlib import Path
from daps_priors.training.settings import TrainDenoiser
if __name__ == "__main__":
    torch.set_num_threads(1)
    print("started", flush=True)
    TrainDenoiser(**json.loads(Path(sys.argv[1]).read_text())).build().run()
"""


def launch(settings: TrainDenoiser, folder: Path) -> subprocess.Popen[str]:
    script, described = folder / "train.py", folder / "recipe.json"
    script.write_text(SCRIPT)
    described.write_text(settings.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, str(script), str(described)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if not listing.exists():
        pytest.skip("needs Linux's /proc")
    found = [int(child) for child in listing.read_text().split()]
    return [c for c in found if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]


@pytest.mark.slow
def test_kill_nine_loses_nothing(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    settings = recipe(data, output, images_seen=1600, epoch=800, workers=2)
    process = launch(settings, tmp_path)
    wait_for(output / "checkpoint.safetensors.previous", process)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in workers
    ):
        assert time.monotonic() < end, "a worker outlives its killed parent"
        time.sleep(0.05)
    assert tensor_file.read(output / "checkpoint.safetensors")[1]["step"] < 100
    settings.build().run()
    whole = tmp_path / "whole"
    settings.model_copy(update={"output": whole}).build().run()
    for name, value in tensors(whole).items():
        assert torch.equal(value, tensors(output)[name]), name


@pytest.mark.slow
def test_a_dead_worker_ends_the_run_with_a_clear_error(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = launch(recipe(data, output, images_seen=10**6, epoch=10**6, workers=2), tmp_path)
    wait_for(output / "checkpoint.safetensors", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "UserError: a worker process ended early (exit code -9" in error
    assert tensors(output)


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


class TestImages:
    """What is read, and what is refused."""

    def save(self, folder: Path, name: str, array: np.ndarray) -> Path:
        folder.mkdir(exist_ok=True)
        Image.fromarray(array.squeeze()).save(folder / name)
        return folder / name

    def test_folder_glob_and_archive_agree(self, tmp_path: Path) -> None:
        images = shapes(6)
        for i, image in enumerate(images):
            self.save(tmp_path / "images", f"{i}.png", image)
        (tmp_path / "images" / "notes.txt").write_text("not an image")
        np.savez(tmp_path / "all.npz", images=images)
        for source in (tmp_path / "images", tmp_path / "images" / "*.png", tmp_path / "all.npz"):
            assert np.array_equal(load_images(source, 16), images)

    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_any_number_of_channels(self, tmp_path: Path, channels: int) -> None:
        np.savez(tmp_path / "many.npz", images=shapes(40, 20, channels))
        settings = recipe(
            tmp_path / "many.npz", tmp_path, validation=8, images_seen=32, augment={"strong": 0.5}
        )
        model, _, _ = weights.load(settings.build().run())
        assert model.shape == (channels, 16, 16)
        assert load_images(tmp_path / "many.npz", 10).shape == (40, 10, 10, channels)

    def test_larger_images_are_cropped_and_reduced(self, tmp_path: Path) -> None:
        wide = np.zeros((32, 64, 3), np.uint8)
        wide[:, 16:48] = 200
        self.save(tmp_path / "wide", "a.png", wide)
        assert np.array_equal(load_images(tmp_path / "wide", 16), np.full((1, 16, 16, 3), 200, np.uint8))

    def test_too_small(self, tmp_path: Path) -> None:
        self.save(tmp_path / "small", "tiny.png", shapes(1, 12)[0])
        with pytest.raises(UserError, match=r"tiny\.png is 12 x 12 pixels: too small.*16 x 16"):
            load_images(tmp_path / "small", 16)
        np.savez(tmp_path / "small.npz", images=shapes(3, 12))
        with pytest.raises(UserError, match=r"row 0 is 12 x 12"):
            load_images(tmp_path / "small.npz", 16)

    def test_grey_mixed_with_colour(self, tmp_path: Path) -> None:
        self.save(tmp_path / "mixed", "a.png", shapes(1)[0])
        self.save(tmp_path / "mixed", "b.png", shapes(1, channels=1)[0])
        with pytest.raises(UserError, match=r"b\.png has 1 channel.*a\.png has 3.*not on both"):
            load_images(tmp_path / "mixed", 16)

    def test_a_corrupt_file(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "bad", "a.png", shapes(1)[0])
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
            load_images(tmp_path / "bad", 16)
        (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nonsense")
        with pytest.raises(UserError, match=r"bad\.npz cannot be read"):
            load_images(tmp_path / "bad.npz", 16)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no images at"):
            load_images(tmp_path / "*.png", 16)
        np.savez(tmp_path / "other.npz", pictures=shapes(2))
        with pytest.raises(UserError, match=r"no array `images` \(it has pictures\)"):
            load_images(tmp_path / "other.npz", 16)
        np.savez(tmp_path / "floats.npz", images=np.zeros((3, 16, 16, 3)))
        with pytest.raises(UserError, match="must be uint8"):
            load_images(tmp_path / "floats.npz", 16)

    def test_more_bits_than_eight(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((16, 16), 60000, np.uint16)).save(tmp_path / "deep.png")
        with pytest.raises(UserError, match="more than 8 bits"):
            load_images(tmp_path / "deep.png", 16)

    def test_held_out_images_are_spread_and_fixed(self) -> None:
        train, held = split(1789, 64, 0)
        assert len(train) == 1789 - 64
        assert not set(train) & set(held)
        assert all(
            a <= row < b for row, a, b in zip(held, np.arange(64) * 27.9, np.arange(1, 65) * 28, strict=True)
        )
        assert np.array_equal(split(1789, 64, 0)[1], held)
        assert not np.array_equal(split(1789, 64, 1)[1], held)
        with pytest.raises(UserError, match="too few to hold 64"):
            split(100, 64, 0)


class TestParts:
    """Augmentation, schedules and settings."""

    def test_no_augmentation_is_the_frame_itself(self) -> None:
        images = torch.from_numpy(shapes(4, 20))
        found = augment(images, 16, Augmentation(flip=False), torch.Generator().manual_seed(0))
        assert torch.equal(found, centre(images, 16))
        assert torch.equal(centre(images, 16)[0, :, 0, 0], images[0, 2, 2].float() / 127.5 - 1)

    def test_jitter_shifts_by_whole_pixels_and_flip_mirrors(self) -> None:
        images = torch.from_numpy(shapes(200, 20))
        found = augment(images, 16, Augmentation(jitter=1), torch.Generator().manual_seed(0))
        clean = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        kinds = set()
        for image, x in zip(clean, found, strict=True):
            for mirrored in (False, True):
                candidate = image.flip(-1) if mirrored else image
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if torch.allclose(candidate[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx], x, atol=1e-6):
                            kinds.add((mirrored, dy, dx))
                            break
        assert len(kinds) == 18

    def test_a_warp_without_spread_is_the_frame(self) -> None:
        images = torch.from_numpy(shapes(4, 20))
        still = Augmentation(flip=False, strong=1.0, shift=0.0, scale=0.0, rotation=0.0, colour=0.0)
        found = augment(images, 16, still, torch.Generator().manual_seed(0))
        torch.testing.assert_close(found, centre(images, 16), rtol=0, atol=4e-3)

    def test_a_warp_shifts_and_scales_as_asked(self) -> None:
        grid = torch.arange(40, dtype=torch.float32)
        blob = 255 * torch.exp(-((grid[:, None] - 19.5) ** 2 + (grid - 19.5) ** 2) / (2 * 2.0**2))
        images = blob.to(torch.uint8)[None, :, :, None].expand(300, 40, 40, 1)
        settings = Augmentation(flip=False, strong=1.0, shift=2.0, scale=0.1, rotation=10.0, colour=0.0)
        found = (augment(images, 32, settings, torch.Generator().manual_seed(0))[:, 0] + 1).clamp_min(0)
        mass = found.sum((1, 2))
        row = (found.sum(2) * torch.arange(32)).sum(1) / mass - 15.5
        assert float(row.std()) == pytest.approx(2.0, rel=0.15)
        spread = (found.sum(2) * (torch.arange(32) - 15.5 - row[:, None]) ** 2).sum(1) / mass
        assert float((spread.log() / 2).std()) == pytest.approx(0.1, rel=0.2)

    def test_backgrounds_change_only_what_lies_outside(self) -> None:
        images = torch.full((50, 88, 88, 3), 128, dtype=torch.uint8)
        still = {"flip": False, "strong": 1.0, "shift": 0.0, "scale": 0.0, "rotation": 0.0, "colour": 0.0}
        settings = Augmentation(**still, background=1.0)
        found = augment(images, 64, settings, torch.Generator().manual_seed(0))
        inside = found[:, :, 20:40, 20:44]
        torch.testing.assert_close(inside, torch.full_like(inside, 128 / 127.5 - 1), rtol=0, atol=0.01)
        assert float(found[:, :, :4, :4].std(0).mean()) > 0.1

    def test_noise_levels_have_the_distribution_asked_for(self) -> None:
        generator = torch.Generator().manual_seed(0)
        uniform, mix = torch.rand(2, 40000, generator=generator)
        plain = NoiseLevels(log_mean=-0.6, log_std=1.4, uniform=0.0).sigma(uniform, mix).log()
        assert float(plain.mean()) == pytest.approx(-0.6, abs=0.03)
        assert float(plain.std()) == pytest.approx(1.4, rel=0.02)
        flat = NoiseLevels(uniform=1.0).sigma(uniform, mix)
        assert float(flat.min()) >= 0.005
        assert float((flat < 0.7071).float().mean()) == pytest.approx(0.5, abs=0.01)

    def test_the_learning_rate_rises_and_ends_at_zero(self) -> None:
        rate = Optimisation(images_seen=1000, warm_up=100, batch_size=10, learning_rate=1.0).rate
        assert rate(0) == pytest.approx(0.1)
        assert rate(90) == pytest.approx(0.980, abs=1e-3)
        assert rate(500) == pytest.approx(0.5)
        assert rate(1000) == 0

    @pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
    def test_the_average_has_the_width_asked_for(self, width: float) -> None:
        power = ema_power(width)
        t = np.linspace(0, 1, 200001)
        weight = t**power / np.sum(t**power)
        mean = np.sum(weight * t)
        assert np.sqrt(np.sum(weight * (t - mean) ** 2)) == pytest.approx(width, rel=1e-3)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"frame": 18}, "divisible by 4"),
            ({"batch_size": 15, "workers": 2}, "divisible by workers"),
            ({"augment": {"jitter": 2}}, "needs a margin"),
            ({"workers": 2, "device": "cuda"}, "several workers compute on the cpu"),
            ({"network": NETWORK | {"blocks": (1,)}}, "2 resolutions, blocks has 1"),
            ({"sigma": {"minimum": 200.0}}, "must be below maximum"),
            ({"learning_rte": 1.0}, "Extra inputs"),
        ],
    )
    def test_impossible_settings_are_refused(
        self, data: Path, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValidationError, match=message):
            recipe(data, tmp_path, **changes)


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


def test_it_learns_the_guesses_of_a_teacher(data: Path, finished: Path, tmp_path: Path) -> None:
    teacher = finished / "weights.safetensors"
    settings = recipe(data, tmp_path, teacher=teacher, images_seen=3200, epoch=3200, checkpoint_seconds=60)
    pupil, model = weights.load(settings.build().run())[0], weights.load(teacher)[0]
    x0 = centre(torch.from_numpy(shapes()[:24]), 16)
    x = x0 + torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    level = torch.ones(len(x))
    with torch.no_grad():
        taught = (model(x, level) + model(x.flip(-1), level).flip(-1)) / 2
        found, linear = pupil(x, level), model.gauss(x, level)
    asked = Teacher.load(teacher, model.shape, mirror=True)
    torch.testing.assert_close(asked.denoise(x, level), taught, rtol=1e-4, atol=1e-4)
    assert float((found - taught).square().mean()) < 0.3 * float((linear - taught).square().mean())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pupil_that_starts_as_its_teacher_has_nothing_to_learn(
    data: Path, finished: Path, tmp_path: Path, workers: int
) -> None:
    weights = finished / "weights.safetensors"
    settings = recipe(
        data, tmp_path, start=weights, teacher=weights, workers=workers, augment={"flip": False}
    )
    settings.build().run()
    assert max(line["loss"] for line in log(tmp_path)) < 1e-3  # without a teacher: some 0.5


def test_a_teacher_of_other_images_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"teacher .* knows images of shape \[3, 64, 64\]"):
        recipe(data, tmp_path, teacher="embedded").build().run()
