"""The settings of the operators: drawn by seed alone, described, and refused where they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from daps_operators import (
    Chain,
    DefocusBlur,
    DownSampling,
    GaussianBlur,
    HighDynamicRange,
    Identity,
    Inpainting,
    LinearMotionBlur,
    MotionBlur,
)
from daps_operators import daps_operators as hook
from tests.operators.inputs import build


@pytest.mark.parametrize("settings", [Inpainting(), Inpainting(mask="random"), MotionBlur(kernel_size=15)])
def test_draws_follow_the_seed_alone(settings):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    (first,), (again,), (other,) = (build(settings, seed=s).state().values() for s in (2**62, 2**62, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert np.random.random() == np.random.RandomState(1).random()  # noqa: NPY002


def test_per_image_draws():
    assert not Inpainting().per_image
    assert Inpainting(draw="per_image").per_image
    assert MotionBlur(draw="per_image").per_image


@pytest.mark.parametrize(("settings", "options", "message"), [
    (Inpainting, {"mask": "bix"}, "'bix' is not 'box', 'random' or a file, such as one.npy or one.png; did you mean 'box'?"),
    (Inpainting, {"mask": "gone.npy"}, "no such file: "),
    (Inpainting, {"mask": 3}, "'3' is not 'box'"),
    (Inpainting, {"mask_len_range": (9, 9)}, "1 <= low < high"),
    (Inpainting, {"mask_prob_range": (0.5, 0.2)}, "0 <= low <= high < 1"),
    (Inpainting, {"mask_prob_range": (0.5, 1.0)}, "0 <= low <= high < 1"),
    (Inpainting, {"margin": -1}, "greater than or equal to 0"),
    (DownSampling, {"scale_factor": 1}, "greater than 1"),
    (DownSampling, {"kernel": "bicubic"}, "'cubic', 'lanczos2'"),
    (GaussianBlur, {"kernel_size": 60}, "60 is even; allowed: odd sizes, such as 61"),
    (GaussianBlur, {"intensity": 0.0}, "greater than 0"),
    (MotionBlur, {"kernel_size": 10}, "10 is even"),
    (MotionBlur, {"intensity": 1.5}, "less than or equal to 1"),
    (MotionBlur, {"kernel": "drawn"}, "is not 'random' or a file"),
    (HighDynamicRange, {"scale": -1.0}, "greater than 0"),
    (HighDynamicRange, {"saturation": -1.0}, "greater than -1"),
    (DefocusBlur, {"radius": 0.0}, "greater than 0"),
    (LinearMotionBlur, {"length": 0.5}, "greater than or equal to 1"),
    (LinearMotionBlur, {"kernel_size": 10}, "10 is even"),
    (Chain, {"operators": ()}, "at least 1 item"),
    (Identity, {"sigma": 1.0}, "Extra inputs"),
])  # fmt: skip
def test_wrong_settings(settings, options, message):
    with pytest.raises(ValidationError) as caught:
        settings(**options)
    assert message in str(caught.value)


def test_every_operator_says_what_it_takes_for_granted():
    for settings in hook():
        assert "y" in settings.conventions().split()[:4] or "y =" in settings.conventions(), settings.name
        assert "[" in settings.conventions()


def test_every_setting_is_described_and_every_default_builds():
    for settings in hook():
        assert settings.summary().endswith(".")
        for name, field in settings.model_fields.items():
            assert field.description, f"{settings.name}.{name}"
        settings.model_json_schema()
