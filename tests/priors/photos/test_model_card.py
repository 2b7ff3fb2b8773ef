"""The model card of photos says what the file of weights says, and its recipe is the one it was trained by."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from daps_kit.recipe.training import load_training
from daps_kit.tensor_file import read
from daps_priors.photos.settings import Photos, PhotosGrey
from daps_priors.photos.weights import load
from daps_priors.training.photos.settings import TrainPhotos

pytestmark = pytest.mark.skipif(not Photos.file.exists(), reason="its weights are not there")


def test_the_card_is_current(model_card: ModuleType) -> None:
    text = (model_card.HERE / "photos.md").read_text(encoding="utf-8")
    assert model_card.current("photos.md") == text, "write it anew: python docs/model_card.py"


def test_it_credits_those_whose_licences_ask_for_it() -> None:
    card = read(Photos.file)[1]["card"]
    credits = card["credits"].splitlines()
    assert len(credits) > 30
    for licence in ("CC-BY-4.0", "CC-BY-3.0", "CC-BY 2.0", "BSD-2-Clause", "MIT"):
        assert any(licence in line for line in credits)
    assert not any("public domain" in line.lower() or "CC0" in line for line in credits)
    assert "must not be used" in card["limits"]


def test_the_recipe_is_the_one_of_the_weights() -> None:
    described = read(Photos.file)[1]
    trainer = load_training("train/photos").trainer
    assert isinstance(trainer, TrainPhotos)
    ours, theirs = trainer.model_dump(mode="json"), described["training"]["settings"]
    schedule = {"images", "output", "card", "start", "seen_before", "images_seen", "compile"}
    assert {k: v for k, v in ours.items() if k not in schedule} == {
        k: v for k, v in theirs.items() if k not in schedule
    }
    assert trainer.card.model_dump(mode="json").items() <= described["card"].items()


@pytest.mark.parametrize(("prior", "gap"), [(Photos, 1.0), (PhotosGrey, 1.1)])
def test_it_is_small_and_better_than_its_linear_part(
    prior: type[Photos] | type[PhotosGrey], gap: float
) -> None:
    assert prior.file.stat().st_size <= 8_000_000
    model, _, description = load(prior.file, torch.device("cpu"))
    assert description["card"]["title"] == prior.name
    assert (model.unet.multiple, model.unet.reach) == (16, 186)
    psnr = description["training"]["psnr"]
    for sigma in ("0.05", "0.1", "0.2", "0.4", "1.0"):
        assert psnr["psnr"][sigma] > psnr["linear_psnr"][sigma] + 0.5
        # What was learned holds for other pictures as well.
        gains = [psnr[f"{kind}psnr"][sigma] - psnr[f"{kind}linear_psnr"][sigma] for kind in ("", "trained_")]
        assert gains[0] > gains[1] - gap
