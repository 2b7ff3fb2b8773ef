"""Settings that trainings of denoisers have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from daps_priors.training.fields import optimisation, require_one_number_each
from daps_priors.training.photos.settings import TrainPhotos
from daps_priors.training.settings import TrainDenoiser

BASES = (TrainDenoiser, TrainPhotos)


@pytest.mark.parametrize("settings", BASES)
def test_every_number_of_the_optimisation_is_that_of_the_settings(settings: type, tmp_path: Path) -> None:
    given = {"images_seen": 7, "batch_size": 16, "learning_rate": 0.5, "warm_up": 3, "weight_decay": 0.25,
             "clip": 2.0, "ema": 0.125}  # fmt: skip
    sizes = {"sizes": (64, 128)} if settings is TrainPhotos else {}
    made = optimisation(settings(images=tmp_path, output=tmp_path, **given, **sizes))
    assert vars(made) == given


@pytest.mark.parametrize("settings", BASES)
@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0.0}, {"weight_decay": -1.0}, {"clip": 0.0}, {"ema": 0.25}, {"checkpoint_seconds": 0.0},
     {"network": {"blocks": ()}}, {"network": {"blocks": (9, 1, 1)}}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(settings: type, wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(wrong))}"):
        settings(images=tmp_path, output=tmp_path, **wrong)


def test_as_many_blocks_as_widths() -> None:
    require_one_number_each("widths", (8, 16), (1, 2))
    with pytest.raises(ValueError, match="widths has 2 resolutions, blocks has 1"):
        require_one_number_each("widths", (8, 16), (1,))
