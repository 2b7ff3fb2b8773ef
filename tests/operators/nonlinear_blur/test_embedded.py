"""The embedded nonlinear blur as an operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_operators import NonlinearBlur as NonlinearBlurSettings
from daps_operators.nonlinear_blur.network import (
    path_kernel,
)
from daps_operators.nonlinear_blur.operator import EMBEDDED, NonlinearBlur
from daps_operators.nonlinear_blur.pairs import (
    draw_paths,
    draw_shapes,
)
from daps_operators.nonlinear_blur.weights import load_shake_network
from tests.operators.nonlinear_blur.small_network import CPU, codes, pictures


@pytest.mark.parametrize("size", [(64, 64), (30, 41), (5, 7), (1, 90)])
def test_images_of_any_size(size):
    operator = NonlinearBlurSettings().build(shape=(3, *size), seed=0, device=CPU)
    x = 2 * pictures(2, 3, *size) - 1
    y = operator.forward(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    single = operator.forward(x.double())
    torch.testing.assert_close(single.float(), y, rtol=0, atol=2e-5)


def test_an_even_image_stays_as_it_is_and_nothing_gets_brighter_than_around_it():
    for seed in range(5):
        operator = NonlinearBlurSettings(kernel="random").build(shape=(3, 64, 64), seed=seed, device=CPU)
        for value in (-0.8, -0.2, 0.4, 1.0):
            y = operator.forward(torch.full((1, 3, 64, 64), value))
            assert float((y - value).abs().max()) < 0.02
        x = 1.2 * pictures(1, 3, 64, 64) - 0.9  # up to 0.3, so nothing is white
        assert float(operator.forward(x).max()) < 0.3 + 0.02
        assert float(operator.forward(x).min()) > -0.9 - 0.02


def test_codes_of_the_embedded_blur_differ_by_seed_and_by_image():
    def code(**settings) -> torch.Tensor:
        seed = settings.pop("seed", 0)
        built = NonlinearBlurSettings(**settings).build(shape=(3, 64, 64), seed=seed, device=CPU)
        return built.state()["kernel"]

    assert code().shape == (1, 40, 1, 1)
    assert torch.equal(code(seed=1), code(seed=0))
    assert not torch.equal(code(kernel="random", seed=1), code(kernel="random", seed=0))
    operators = [
        NonlinearBlurSettings(kernel="random").build(shape=(3, 32, 32), seed=seed, device=CPU)
        for seed in range(2)
    ]
    x = (2 * pictures(1, 3, 32, 32) - 1).expand(2, -1, -1, -1)
    stacked = NonlinearBlur.stack(operators)
    assert isinstance(stacked, NonlinearBlur)
    torch.testing.assert_close(
        stacked.forward(x), torch.cat([operator.forward(x[:1]) for operator in operators])
    )


def test_drawn_kernels_are_as_wide_as_simulated_ones():
    network, _, _ = load_shake_network(EMBEDDED)
    rng = np.random.default_rng(0)
    y, x = torch.meshgrid(torch.arange(-8.0, 9), torch.arange(-8.0, 9), indexing="ij")

    def widths(kernels: torch.Tensor) -> torch.Tensor:
        return (kernels * (x**2 + y**2)).sum((1, 2)).sqrt()

    simulated = widths(path_kernel(draw_paths(draw_shapes(300, rng), 300, 8, rng), 8))
    drawn = widths(network.adapter.kernel(codes(300, 40)))
    assert float(drawn.median()) == pytest.approx(float(simulated.median()), rel=0.35)
