"""The target in whitened coordinates, against dense matrices and automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.errors import ComponentError
from daps_samplers.target import ExactScoreTarget, GaussianTarget
from daps_samplers.whitened import Linearised, Whitened, largest_eigenvalue, random_signs
from tests.samplers.closed_form import SHAPE, SIZE, make, smooth_prior

DOUBLE = torch.float64


@pytest.fixture
def target():
    prior, operator = smooth_prior(), make("gaussian_blur")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8])).double()
    covariance = prior.denoising_covariance(1.0)
    return GaussianTarget(
        prior.denoise(y, 1.0), covariance, operator, y, sigma=1.0, likelihood_variance=0.05**2
    )


def dense(target):
    """C^{1/2} and A as matrices."""
    eye = torch.eye(SIZE, dtype=DOUBLE).reshape(SIZE, *SHAPE)
    root = torch.stack([target.covariance.sqrt(row.expand(2, *SHAPE))[0].flatten() for row in eye])
    return root.T, target.operator.forward(eye).flatten(1).T


def test_coordinates_and_images_are_each_others_inverse(target):
    space = Whitened(target)
    x = RandomStreams([1, 2]).normal(SHAPE, DOUBLE)
    w = space.coordinates(x)
    torch.testing.assert_close(space.image(w), x, rtol=1e-6, atol=1e-6)
    root, _ = dense(target)
    torch.testing.assert_close((x - target.centre).flatten(1), w.flatten(1) @ root.T, rtol=1e-6, atol=1e-6)


def test_the_density_is_that_of_the_target_and_its_gradient_the_derivative(target):
    space = Whitened(target)
    w = RandomStreams([1, 2]).normal(SHAPE, DOUBLE)
    value, gradient = space.log_density_grad(space.image(w), w)
    torch.testing.assert_close(value, target.log_density(space.image(w)), rtol=1e-6, atol=1e-6)
    root, a = dense(target)
    misfit = target.y.flatten(1) - space.image(w).flatten(1) @ a.T
    expected = misfit @ (a @ root) / 0.05**2 - w.flatten(1)
    torch.testing.assert_close(gradient.flatten(1), expected, rtol=1e-6, atol=1e-6)


def test_the_curvature_is_that_of_the_definition(target):
    weight = 1 + RandomStreams([3]).uniform(SHAPE, DOUBLE)
    here = Linearised(Whitened(target), target.centre, weight)
    root, a = dense(target)
    b = a @ root
    v = RandomStreams([1, 2]).normal(SHAPE, DOUBLE)
    expected = v.flatten(1) + v.flatten(1) @ b.T * weight.flatten() @ b
    torch.testing.assert_close(here.multiply(v).flatten(1), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(here.pull_back(v).flatten(1), v.flatten(1) @ b, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(here.clean, target.operator.forward(target.centre))
    matrix = torch.eye(SIZE, dtype=DOUBLE) + b.T @ torch.diag(weight.flatten()) @ b
    scale = 0.5 + RandomStreams([4]).uniform(SHAPE, DOUBLE)
    scaled = scale.flatten()[:, None] * matrix * scale.flatten()
    found = here.stiffness(RandomStreams([1, 2]).normal(SHAPE, DOUBLE), steps=400, scale=scale)
    largest = torch.linalg.eigvalsh(scaled)[-1]
    torch.testing.assert_close(found, largest.expand(2), rtol=1e-3, atol=0)


def test_a_target_without_a_density_is_refused(target):
    with pytest.raises(ComponentError, match="with prior_score 'exact' there is none"):
        Whitened(ExactScoreTarget(target, smooth_prior(), 0.01))


def test_signs_are_always_the_same_and_balanced():
    signs = random_signs(50, torch.zeros(2, 3, 20, 20))
    assert signs.shape == (50, 3, 20, 20)
    assert torch.equal(signs, random_signs(50, torch.ones(1, 3, 20, 20)))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 4.5 / signs.numel() ** 0.5


def test_the_largest_eigenvalue_is_found_from_below():
    values = torch.tensor([[1.0, 4.0, 9.0], [0.5, 0.25, 0.125]], dtype=DOUBLE)
    probe = torch.ones(2, 3, dtype=DOUBLE)
    few, many = (largest_eigenvalue(lambda v: values * v, probe, steps) for steps in (2, 60))
    torch.testing.assert_close(many, torch.tensor([9.0, 0.5], dtype=DOUBLE))
    assert bool((few < many).all())
    # After one step from (1, 1, 1): the quotient of the probe's image.
    images = values / values.norm(dim=1, keepdim=True)
    torch.testing.assert_close(few, (images.square() * values).sum(1))


@pytest.mark.parametrize("accuracy", [0.3, 0.03])
def test_a_solution_is_as_accurate_as_was_asked_for_and_not_much_more(target, accuracy):
    """The bound is |r| / sqrt d, in posterior standard deviations; conjugate gradients end where it is reached."""
    here = Linearised(Whitened(target), target.centre, 1 / 0.05**2)
    b = 30 * RandomStreams([1, 2]).normal(SHAPE, DOUBLE)
    w, bound = here.solve(b, accuracy=accuracy, max_steps=500)
    left = (b - here.multiply(w)).flatten(1).norm(dim=1) / SIZE**0.5
    torch.testing.assert_close(bound, left, rtol=1e-3, atol=1e-6)
    assert bool((bound <= accuracy).all())
    assert float(bound.max()) > accuracy / 30


def test_the_variances_of_the_clean_measurement_are_those_of_the_posterior():
    """By a mask the matrix is diagonal, and one probe is exact; by a blur many probes come near."""
    for name, probes, error in (("identity", 1, 1e-4), ("gaussian_blur", 400, 0.25)):
        operator, sigma = make(name), 0.3
        centre = torch.zeros(2, *SHAPE, dtype=DOUBLE)
        target = GaussianTarget(
            centre, Isotropic(torch.tensor(0.5)), operator, centre, sigma=1.0, likelihood_variance=sigma**2
        )
        found = Linearised(Whitened(target), centre, 1 / sigma**2).variances(probes, 300)
        a = operator.forward(torch.eye(SIZE, dtype=DOUBLE).reshape(SIZE, *SHAPE)).flatten(1).T
        posterior = torch.linalg.inv(torch.eye(SIZE, dtype=DOUBLE) / 0.5 + a.T @ a / sigma**2)
        expected = (a @ posterior @ a.T).diagonal().reshape(1, *SHAPE).expand_as(found)
        assert float((found / expected - 1).abs().max()) < error
        torch.testing.assert_close(found.mean(), expected.mean(), rtol=0.02, atol=0)
