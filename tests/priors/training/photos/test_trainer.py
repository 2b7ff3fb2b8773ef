"""Training a prior of photographs on synthetic pictures: it learns, goes on where it stopped, and writes what it is."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from daps_kit.errors import UserError
from daps_kit.spectrum_head import WIDER, shown
from daps_kit.tensor_file import read_plain
from daps_priors.photos.prior import load_photos
from daps_priors.training.photos.settings import TrainPhotos

CPU = torch.device("cpu")
SMALL = {
    "validation_side": 32,
    "sizes": [16, 32],
    "network": {"widths": [8, 8], "blocks": [1, 1], "embedding": 16},
    "batch_size": 1,
    "warm_up": 8,
    "epoch": 20,
    "bfloat16": False,
    "card": {"title": "small", "licence": "Apache-2.0"},
}


def trainer(folder, output, **changes):
    return TrainPhotos(images=folder / "pictures.csv", output=output, **SMALL | changes).build()


def test_it_learns_and_writes_what_it_is(folder, tmp_path):
    told = []
    path = trainer(folder, tmp_path, images_seen=60).run(told.append)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["images"] for line in log] == [20, 40, 60]
    assert (
        log[-1]["trained_psnr"].keys()
        == log[-1]["psnr"].keys()
        == {"0.05", "0.1", "0.2", "0.4", "1.0", "3.0"}
    )
    assert told[-1].measured["psnr"] == log[-1]["psnr"]
    # Pictures with the spectrum of a power law leave little to learn, but nothing is lost on the linear denoiser.
    assert log[-1]["psnr"]["0.2"] > log[-1]["linear_psnr"]["0.2"] - 0.1
    prior = load_photos(path, shape=(3, 21, 40), device=CPU, dtype="float32")
    assert prior.description["training"]["images_seen"] == 60
    assert prior.description["training"]["pictures"] == 3
    assert prior.description["card"]["credits"].splitlines()[1] == "C.jpg: Cy, Expat (MIT)"
    assert prior.description["card"]["title"] == "small"
    assert prior.calibration.images == 2
    assert prior.description["training"]["psnr"]["psnr"]["0.2"] == pytest.approx(
        log[-1]["psnr"]["0.2"], abs=0.05
    )
    mse = prior.calibration.mse[list(prior.calibration.sigma).index(torch.tensor(0.2))]
    assert 10 * float((4 / mse).log10()) == pytest.approx(log[-1]["psnr"]["0.2"], abs=1.0)


def test_a_training_that_was_broken_off_ends_as_the_unbroken_one(folder, tmp_path):
    whole = trainer(folder, tmp_path / "whole", images_seen=12, seed=3).run()

    class Stop(Exception):
        pass

    def stop(report):
        if report.images >= 6:
            raise Stop

    broken = trainer(folder, tmp_path / "broken", images_seen=12, seed=3, epoch=2, checkpoint_seconds=1e-9)
    with pytest.raises(Stop):
        broken.run(stop)
    again = trainer(folder, tmp_path / "broken", images_seen=12, seed=3).run()
    a, b = (read_plain(path)[0] for path in (whole, again))
    assert a.keys() == b.keys()
    # Sums are not taken in the same order each time: twelve steps leave that much.
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-3, atol=5e-4)
    elsewhere = read_plain(trainer(folder, tmp_path / "other", images_seen=12, seed=4).run())[0]
    assert float((elsewhere["unet.stem.weight"] - a["unet.stem.weight"]).float().abs().max()) > 2e-3


def test_finished_weights_are_measured_and_written(folder, tmp_path):
    first = trainer(folder, tmp_path / "a", images_seen=4).run()
    arguments = {"start": first, "seen_before": 1000, "images_seen": 0}
    second = trainer(folder, tmp_path / "b", **arguments).run()
    a, b = (load_photos(path, shape=None, device=CPU) for path in (first, second))
    for name, value in a.model.state_dict().items():
        assert torch.equal(b.model.state_dict()[name], value)
    torch.testing.assert_close(a.calibration.ratio, b.calibration.ratio)
    assert b.description["training"]["images_seen"] == 1000
    further = trainer(folder, tmp_path / "c", start=first, images_seen=4).run()
    assert not torch.equal(
        read_plain(further)[0]["unet.stem.weight"], read_plain(first)[0]["unet.stem.weight"]
    )


def test_grey_pictures_and_bfloat16(folder, tmp_path):
    path = trainer(folder, tmp_path, channels=1, images_seen=2, bfloat16=True).run()
    assert load_photos(path, shape=(1, 8, 9), device=CPU).channels == 1


def test_what_cannot_be(folder, tmp_path):
    for changes, words in (
        ({"sizes": [18]}, "divisible by 4"),
        ({"sizes": [68]}, "fewer pixels than one of 68"),
        ({"images_seen": 0}, "there must be weights to start from"),
        ({"network": {"widths": [8], "blocks": [1, 1]}}, "1 resolutions, blocks has 2"),
    ):
        with pytest.raises(ValidationError, match=words):
            trainer(folder, tmp_path, **changes)
    first = trainer(folder, tmp_path / "a", images_seen=1).run()
    wider = {"widths": [16, 8], "blocks": [1, 1], "embedding": 16}
    other = trainer(folder, tmp_path / "b", start=first, images_seen=1, network=wider)
    with pytest.raises(UserError, match="cannot start from"):
        other.run()
    elsewhere = TrainPhotos(images=folder, output=tmp_path / "a", **SMALL | {"validation": 2}).build()
    with pytest.raises(UserError, match="other pictures"):
        elsewhere.run()


def test_a_head_is_fitted_in_the_end(folder, tmp_path):
    first = trainer(folder, tmp_path / "a", images_seen=4).run()
    arguments = {"start": first, "images_seen": 0, "head": 60, "batch_size": 4}
    path = trainer(folder, tmp_path / "b", **arguments).run()
    prior = load_photos(path, shape=None, device=CPU, dtype="float32")
    local = prior.calibration.local
    assert local is not None
    assert local.images == prior.calibration.images == 2
    # It makes the mean over pictures of the covariance at each x_t what the measured one is.
    held_out = trainer(folder, tmp_path / "c", **arguments).pictures.load(16).validation
    draw = torch.Generator().manual_seed(3)
    for sigma in (0.1, 0.7):
        x = held_out + sigma * torch.randn(20, *held_out.shape, generator=draw)
        power = torch.stack([prior.conditional_covariance(each, sigma).power for each in x])
        due = prior.mean_covariance(held_out, sigma).power * WIDER ** shown(torch.tensor(sigma).log())
        torch.testing.assert_close(power.mean((0, 1)), due, rtol=0.3, atol=0)
        assert float((power.mean((0, 1)) / due).mean()) == pytest.approx(1, abs=0.05)
        assert float((power[:, 0] / power[:, 1]).mean(0).log().abs().max()) > 0.02
    assert load_photos(path, shape=None, device=CPU, head=False).calibration.local is None
