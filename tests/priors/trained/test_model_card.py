"""The model card of portraits64 says what the file of weights says, and its recipe is the one it was trained by."""

from __future__ import annotations

from types import ModuleType

import pytest

from daps_kit.recipe.training import load_training
from daps_kit.tensor_file import read
from daps_priors.trained.prior import WEIGHTS
from daps_priors.training.settings import TrainDenoiser


def test_the_card_is_current(model_card: ModuleType) -> None:
    text = (model_card.HERE / "portraits64.md").read_text(encoding="utf-8")
    assert model_card.current("portraits64.md") == text, "write it anew: python docs/model_card.py"
    with pytest.raises(ValueError, match="marks"):
        model_card.replaced(text.replace("<!-- /measured -->", ""), "")


def test_the_card_says_what_the_licences_ask_for(model_card: ModuleType) -> None:
    card = read(WEIGHTS / "portraits64.safetensors")[1]["card"]
    text = " ".join(
        (model_card.HERE / "portraits64.md").read_text(encoding="utf-8").replace("\n>", "\n").split()
    )
    for words in ("Chris McAndrew / UK Parliament", "CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/",
                  "US Government Publishing Office, public domain", "aligned, cropped and reduced in size"):  # fmt: skip
        assert words in text
        assert words in card["attribution"]
    assert "must not be used" in card["limits"]


def test_the_recipe_is_the_one_of_the_weights() -> None:
    described = read(WEIGHTS / "portraits64.safetensors")[1]
    trainer = load_training("train/portraits64").trainer
    assert isinstance(trainer, TrainDenoiser)
    settings = trainer.model_dump(mode="json", exclude={"images", "output", "card", "start", "teacher"})
    assert settings == described["training"]["settings"]
    assert trainer.card.model_dump(mode="json") == described["card"]
