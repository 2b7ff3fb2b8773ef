"""DAPS as a reconstructor of deepinv."""

import deepinv
import pytest
import torch
from daps_deepinv.reconstructor import DAPSReconstructor
from deepinv.physics import GaussianNoise

from daps_kit.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # deepinv's own deprecations

EXACT = {"use": "daps", "final_denoise": False}
FLAT = {"use": "gaussian", "mean": 0.1, "std": 0.4}


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(4))


def test_the_mean_is_deepinvs_best_linear_estimate():
    """For a Gaussian prior u ~ N(m, s^2) the posterior mean is a Tikhonov estimate: deepinv's own prox_l2."""
    physics = deepinv.physics.Inpainting((1, 8, 8), mask=(rand(1, 8, 8) > 0.5).float())
    physics.noise_model = GaussianNoise(0.1)
    y = physics.A(rand(2, 1, 8, 8))
    model = DAPSReconstructor(FLAT, EXACT, runs=200, seed=1)
    mean, spread = model(y, physics), model.sample(y, physics).std(1)
    # argmin |A u - y|^2 gamma / 2 + |u - m|^2 / 2 with gamma = s^2 / sigma^2
    wanted = physics.prox_l2(torch.full_like(mean, 0.55), y, 0.2**2 / 0.1**2)
    assert isinstance(model, deepinv.models.Reconstructor)
    assert mean.shape == wanted.shape
    z = (mean - wanted) / (spread / 200**0.5)
    assert float(z.abs().max()) < 5
    unseen = physics.mask[0].expand(2, 1, 8, 8) == 0
    assert float(spread[unseen].mean()) == pytest.approx(0.2, rel=0.05)


def test_a_physics_with_a_mask_for_each_image():
    masks = (rand(2, 2, 8, 8)[:, :1] > 0.5).float().expand(2, 2, 8, 8)
    physics = deepinv.physics.MRI(mask=masks, noise_model=GaussianNoise(0.02))
    u = torch.cat((rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)), 1)
    y = physics(u)
    model = DAPSReconstructor(FLAT, EXACT, runs=2, img_size=(1, 8, 8))
    mean = model(y, physics)
    assert mean.shape == u.shape
    assert not mean[:, 1].any(), "the images of the prior are real"
    misfit = (physics.A(mean) - y)[masks > 0].square().mean().sqrt()
    assert float(misfit) < 3 * 0.02


def test_measurements_in_parts_and_runs():
    physics = deepinv.physics.Pansharpen(
        (3, 16, 16), noise_color=GaussianNoise(0.05), noise_gray=GaussianNoise(0.05)
    )
    y = physics(rand(2, 3, 16, 16))
    model = DAPSReconstructor(FLAT, EXACT, runs=3, seed=5)
    samples = model.sample(y, physics)
    assert samples.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(model(y, physics), samples.mean(1))
    assert torch.equal(DAPSReconstructor(FLAT, EXACT, runs=1, seed=5).sample(y, physics)[:, 0], samples[:, 0])
    assert not torch.equal(samples[:, 0], samples[:, 1])


def test_a_denoiser_of_deepinv_as_the_prior():
    """TV denoises and, through the annealing, fills in: better than what was measured."""
    u = torch.nn.functional.interpolate(rand(1, 1, 4, 4), size=16)
    physics = deepinv.physics.Denoising(GaussianNoise(0.1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = physics(u)
    model = DAPSReconstructor(deepinv.models.TVDenoiser(n_it_max=50), {"use": "daps", "budget": 12}, runs=4)
    assert float((model(y, physics) - u).square().mean()) < 0.8 * float((y - u).square().mean())


def test_what_cannot_be_known_is_asked_for():
    with pytest.raises(UserError, match=r"sigma_range: needed.*DnCNN"):
        DAPSReconstructor(deepinv.models.DnCNN(pretrained=None))
    physics = deepinv.physics.RandomPhaseRetrieval(30, (1, 4, 4), noise_model=GaussianNoise(0.1))
    with pytest.raises(UserError, match="img_size: needed"):
        DAPSReconstructor(FLAT)(rand(1, 30), physics)
    given = DAPSReconstructor(FLAT, {"use": "daps", "budget": 6}, img_size=(1, 4, 4))(rand(1, 30), physics)
    assert given.shape == (1, 1, 4, 4)
    with pytest.raises(UserError, match="ZeroNoise"):
        DAPSReconstructor(FLAT)(rand(1, 1, 4, 4), deepinv.physics.Blur(torch.ones(1, 1, 1, 1)))
