"""Chains against what their operators give one after the other."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from daps_kit.api import build
from daps_kit.contracts import LinearOperator
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import RecipeError, UserError
from daps_operators import Affine, Chain, GaussianBlur, Identity
from tests.operators.inputs import image

SHAPE = (2, 12, 15)
BLUR = {"use": "gaussian_blur", "kernel_size": 9, "intensity": 1.0}
SHIFT = {"use": "shift", "x": 0.4}
MASK = {"use": "inpainting", "mask": "random"}
HDR = {"use": "high_dynamic_range"}


def chain(*sections, **more):
    return build("operator", {"use": "chain", "operators": list(sections), **more}, shape=SHAPE)


def test_one_after_the_other():
    x, v = image(2, *SHAPE), image(2, *SHAPE, seed=1)
    found = chain(BLUR, {"use": "down_sampling", "scale_factor": 3}, HDR)
    blur = build("operator", BLUR, shape=SHAPE)
    down = build("operator", {"use": "down_sampling", "scale_factor": 3}, shape=SHAPE)
    hdr = build("operator", HDR, shape=(2, 4, 5))
    small = down.forward(blur.forward(x))
    torch.testing.assert_close(found.forward(x), hdr.forward(small))
    torch.testing.assert_close(found.jvp(x, v), hdr.jvp(small, down.forward(blur.forward(v))))
    u = image(2, 2, 4, 5, seed=2)
    pulled = blur.adjoint(down.adjoint(hdr.forward_vjp(small)[1](u)))
    torch.testing.assert_close(found.forward_vjp(x)[1](u), pulled)
    assert found.linear_part is None
    assert found.scale == hdr.scale * down.scale * blur.scale


def test_linear_ones_are_linear():
    found = chain(BLUR, SHIFT, MASK)
    assert isinstance(found, LinearOperator)
    assert found.observed is not None
    assert list(found.state()) == ["2-mask"]
    whole = chain(BLUR, {"use": "affine", "offset": 0.5})
    x = image(1, *SHAPE)
    torch.testing.assert_close(whole.forward(x), whole.linear_part.forward(x) + 0.5)


def test_the_spectrum_is_that_of_one_after_the_other():
    """Of a blur and a gain it is the diagonal of A C A^T, as the operators' own are."""
    power = 1 / (1 + torch.arange(12.0)[:, None] ** 2 + torch.arange(15.0) ** 2).double()
    covariance = CosineCovariance(power.expand(SHAPE), torch.eye(2, dtype=torch.float64))
    blur = build("operator", BLUR, shape=SHAPE)
    found = chain(BLUR, {"use": "affine", "scale": 3.0})
    expected = 9 * blur.spectrum(covariance)
    torch.testing.assert_close(found.spectrum(covariance), expected)
    z = image(1, *SHAPE)
    back = found.preconditioner(covariance, 0.01)(covariance.filter(z, expected + 0.01))
    torch.testing.assert_close(back, z)
    assert chain(BLUR, MASK).spectrum(covariance) is chain(BLUR, MASK).waves(covariance) is None


def test_waves_of_both_directions_are_kept():
    power = 1 / (1 + torch.arange(12.0)[:, None] ** 2 + torch.arange(15.0) ** 2).double()
    covariance = CosineCovariance(power.expand(SHAPE), torch.eye(2, dtype=torch.float64))
    sections = [{"use": "linear_motion_blur", "length": 4, "angle": angle} for angle in (30, 70)]
    gains = [build("operator", section, shape=SHAPE).waves(covariance) / power for section in sections]
    found = chain(sections[0], {"use": "affine", "scale": 3.0}, sections[1]).waves(covariance)
    torch.testing.assert_close(found, 9 * gains[0] * gains[1] * power)
    assert float((gains[0][0] - gains[0][1]).abs().max()) > 0.1
    down = chain(sections[0], {"use": "down_sampling", "scale_factor": 3})
    assert down.waves(covariance).shape == (2, 2, 4, 5)
    torch.testing.assert_close(down.waves(covariance).mean(0), down.spectrum(covariance))


def test_open_fields_are_called_by_their_places():
    found = chain(
        BLUR | {"intensity": {"unknown": [0.5, 2.0]}},
        {"use": "rotation", "angle": {"unknown": [0.0, 360.0], "truth": 20.0}},
        noise={"use": "gaussian", "sigma": "unknown"},
    )
    names = ("operators.0.intensity", "operators.1.angle", "noise.sigma")
    assert found.parameters.names == names
    assert found.parameters.periods == {"operators.1.angle": 360.0}
    at = found.parameters.at(torch.tensor([[0.7, 30.0, 0.1]]))
    alone = chain(BLUR | {"intensity": 0.7}, {"use": "rotation", "angle": 30.0})
    x = image(1, *SHAPE)
    torch.testing.assert_close(at.forward(x), alone.forward(x))
    assert at.noise.dispersion == pytest.approx(0.01)


def test_settings_at_values():
    settings = Chain(operators=(GaussianBlur(), Chain(operators=(Affine(), Identity()))))
    changed = settings.at({"operators.0.intensity": 1.5, "operators.1.operators.0.scale": 2.0})
    assert changed.operators[0].intensity == 1.5
    assert changed.operators[1].operators[0] == Affine(scale=2.0)
    assert settings.operators[0].intensity == 3.0


def test_what_does_not_fit_is_told():
    with pytest.raises(ValidationError, match=r"operators.0 has noise; it belongs to the chain"):
        Chain(operators=(Identity(noise=build_noise()),))
    with pytest.raises(RecipeError, match="use"):
        chain({"kernel_size": 3})
    flat = build_flat()
    with pytest.raises(UserError, match=r"operators.0 gives \[24\], which is no image that operators.1"):
        Chain(operators=(flat, Identity())).build(shape=(1, 4, 6), seed=0, device=torch.device("cpu"))


def build_noise():
    from daps_kit.settings import GaussianNoiseSettings

    return GaussianNoiseSettings(sigma=0.1)


def build_flat():
    import daps_kit

    @daps_kit.operator
    def flat(x):
        """Pixels in a row."""
        return x.flatten(1)

    return flat.settings()
