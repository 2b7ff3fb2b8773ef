"""Training of the blur network: it learns, goes on after a break as if there had been none, and says what is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from daps_kit.errors import UserError
from daps_kit.recipe.training import load_training
from daps_kit.trainer import TrainingProgress
from daps_kit.training_images import split
from daps_operators.nonlinear_blur.pairs import load_tiles
from daps_operators.nonlinear_blur.weights import load_shake_network
from tests.operators.nonlinear_blur.small_training import NETWORK, settings

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_training_learns_the_code_of_a_pair(images, tmp_path):
    reports: list[TrainingProgress] = []
    trainer = settings(images, tmp_path, pairs_seen=3200, batch_size=16, shakes=7, epoch=1600).build()
    weights = trainer.run(reports.append)
    epochs = [report for report in reports if report.measured]
    assert [report.images for report in epochs] == [1600, 3200]
    _, _, description = load_shake_network(weights)
    rows = description["measured"]["psnr"]
    assert rows["encoder"]["mean"] > rows["identity"]["mean"] + 1.5
    assert rows["fitted code"]["mean"] > rows["encoder"]["mean"] + 1.5
    assert rows["own linear"]["mean"] > rows["one linear"]["mean"]
    assert epochs[-1].loss < 0.8 * reports[0].loss
    assert description["training"]["pairs_seen"] == 3200
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [1600, 3200]
    assert lines[-1]["measured"]["encoder"]["mean"] == pytest.approx(rows["encoder"]["mean"], abs=0.05)
    with Image.open(io.BytesIO((tmp_path / "pairs-000003200.png").read_bytes())) as sheet:
        assert sheet.size == (8 * 32, 5 * 32)


def test_a_resumed_run_equals_the_unbroken_one(images, tmp_path):
    whole = settings(images, tmp_path / "whole").build().run()

    def stop(progress: TrainingProgress) -> None:
        if progress.images == 64:
            raise KeyboardInterrupt

    broken = settings(images, tmp_path / "broken", checkpoint_seconds=1e-9)
    with pytest.raises(KeyboardInterrupt):
        broken.build().run(stop)  # killed after an epoch was reported and before its checkpoint
    resumed: list[TrainingProgress] = []
    again = broken.build().run(resumed.append)
    assert resumed[0].images == 64
    first, second = load_file(whole), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    logs = [
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "broken")
    ]
    assert [line["images"] for line in logs[1]] == [32, 64, 96]
    assert [line["measured"] for line in logs[0]] == [line["measured"] for line in logs[1]]


def test_held_out_images_are_never_trained_on(images, tmp_path):
    train, held_out = settings(images, tmp_path, pictures=images, validation_pictures=3).build().tiles()
    assert len(train) == 20 + 21
    assert len(held_out) == 4 + 3
    rows = split(24, 4, 0)[1]
    everything = [tiles[0] for tiles in load_tiles(images, 40)]
    for tile, row in zip(held_out[:4], rows, strict=True):
        np.testing.assert_array_equal(tile, everything[row])
    trained = {tile.tobytes() for tile in train[:20]}
    assert not trained & {tile.tobytes() for tile in held_out[:4]}


def test_what_is_wrong_is_said_and_the_checkpoint_stays(images, tmp_path):
    run = settings(images, tmp_path / "run")
    run.build().run()
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    before = checkpoint.read_bytes()
    other = settings(images, tmp_path / "run", network=NETWORK | {"hidden": 16})
    with pytest.raises(UserError, match="run with other network"):
        other.build().run()
    with pytest.raises(UserError, match="run with other images"):
        settings(images, tmp_path / "run", validation=5).build().run()
    with pytest.raises(UserError, match="smaller learning_rate"):
        settings(images, tmp_path / "run", pairs_seen=800, learning_rate=1e15).build().run()
    assert checkpoint.read_bytes() == before
    checkpoint.write_bytes(before[:5000])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is not a whole"):
        run.build().run()


def test_pictures_that_cannot_be_used_are_named(images, tmp_path):
    def attempt(source: Path, **changes: Any) -> None:
        settings(source, tmp_path / "run", **changes).build().run()

    with pytest.raises(UserError, match="no images at"):
        attempt(tmp_path / "none")
    with pytest.raises(UserError, match=r"row 0 is 40 x 40 pixels: too small, frame and margin need 44 x 44"):
        attempt(images, frame=36)
    with pytest.raises(UserError, match="24 images are too few to hold 13 out"):
        attempt(images, validation=13)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"cannot read .*broken\.png"):
        attempt(tmp_path / "*.png")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"cannot read .*broken\.npz"):
        attempt(tmp_path / "broken.npz")
    np.savez(tmp_path / "grey.npz", images=np.zeros((9, 40, 40), np.uint8))
    with pytest.raises(UserError, match=r"must be uint8 \[N, H, W, 3\], not uint8 \[9, 40, 40\]"):
        attempt(tmp_path / "grey.npz")


def test_the_recipe_of_the_shipped_weights_made_them():
    recipe = load_training(ROOT / "recipes" / "train" / "blur64.yaml")
    _, _, description = load_shake_network(ROOT / "operators/daps_operators/weights/blur64.safetensors")
    ours = recipe.trainer.model_dump(mode="json", exclude={"images", "pictures", "output", "card"})
    assert description["training"]["settings"] == ours
    assert description["card"] == recipe.trainer.model_dump(mode="json")["card"]
