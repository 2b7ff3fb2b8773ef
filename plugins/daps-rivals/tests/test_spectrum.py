"""The singular value decomposition, found from products alone."""

from __future__ import annotations

import pytest
import torch
from daps_rivals.spectrum import Spectrum

from daps_kit import build
from daps_kit.contracts import GaussianNoise, LinearOperator

SHAPE = (3, 12, 10)


class Mixes(LinearOperator):
    """It mixes colours."""

    def forward(self, x):
        return x.roll(1, 1) + 2 * x


@pytest.mark.parametrize(
    "section",
    [
        {"use": "inpainting", "mask": "random"},
        {"use": "down_sampling", "scale_factor": 2},
        {"use": "gaussian_blur", "intensity": 1.0, "kernel_size": 5},
        {"use": "motion_blur", "kernel_size": 5},
        {"use": "identity"},
    ],
    ids=lambda section: section["use"],
)
def test_it_is_the_decomposition(section):
    operator = build("operator", section, shape=SHAPE)
    assert Spectrum.refusal("any", operator) == ""
    found = Spectrum.of(operator)
    assert Spectrum.of(operator) is found
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(found.back(found.to(x)), x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.to(x).square().sum(), x.square().sum())
    wanted = operator.adjoint(operator.forward(x))
    values = found.values.double()
    torch.testing.assert_close(found.back(values.square() * found.to(x)), wanted, rtol=1e-5, atol=1e-5)
    seen = found.measured(operator, operator.forward(x))
    torch.testing.assert_close(seen, torch.where(values > 0, found.to(x), 0), rtol=1e-3, atol=1e-3)


def test_what_is_too_large_or_mixes_channels_is_refused():
    assert "up to 4096 pixels, not 12 x 10" in Spectrum.refusal("ddrm", Mixes(SHAPE, GaussianNoise(0.1)))
    large = build("operator", {"use": "motion_blur"}, shape=(3, 80, 80))
    assert "not 80 x 80" in Spectrum.refusal("ddrm", large)
    assert Spectrum.refusal("ddrm", build("operator", {"use": "gaussian_blur"}, shape=(3, 80, 80))) == ""
