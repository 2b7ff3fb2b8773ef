"""Learning from a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daps_kit.errors import UserError
from daps_priors.trained import weights
from daps_priors.training.augment import centre
from daps_priors.training.teacher import Teacher
from tests.priors.training.discs import log, recipe, shapes


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
